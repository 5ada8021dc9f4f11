package agentservice_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	agentservice "agent-service.dev/clients/go"
	pb "agent-service.dev/clients/go/agentservicev1"
)

type (
	runs    = []func(context.Context, *pb.RunTaskRequest) (*pb.RunTaskResponse, error)
	flows   = []func(*pb.StreamTaskRequest, grpc.ServerStreamingServer[pb.StreamTaskResponse]) error
	watches = []func(*pb.WatchTaskRequest, grpc.ServerStreamingServer[pb.WatchTaskResponse]) error
	gets    = []func(*pb.GetTaskRequest) (*pb.GetTaskResponse, error)
	lists   = []func(*pb.ListTasksRequest) (*pb.ListTasksResponse, error)
	tools   = []func(*pb.ToolInvokeRequest) (*pb.ToolInvokeResponse, error)
)

var hello = agentservice.Request{Task: "say hello"}

func TestAStreamThatBreaksGoesOnWithEveryJournaledEventOnce(t *testing.T) {
	t.Parallel()
	f := &fake{stream: flows{
		streams(gone, tell(1), tell(2), delta(2, "Hel")),
		streams(refusal(codes.Unavailable, "DRAINING"), tell(1), tell(2), tell(3)),
		streams(gone),
		streams(nil, tell(1), tell(2), tell(3), tell(4), reasoning(4, "Hm"), delta(4, "Hello"), completed(5)),
	}}
	client := started(t, f)

	var seen []int64
	var live []string
	for event, err := range client.Stream(within(t), hello) {
		if err != nil {
			t.Fatal(err)
		}
		switch one := event.GetEvent().(type) {
		case *pb.TaskEvent_TextDelta:
			live = append(live, one.TextDelta.GetText())
		case *pb.TaskEvent_ReasoningDelta:
			live = append(live, one.ReasoningDelta.GetText())
		default:
			seen = append(seen, event.GetSequence())
		}
	}
	if !slices.Equal(seen, []int64{1, 2, 3, 4, 5}) || !slices.Equal(live, []string{"Hel", "Hm", "Hello"}) {
		t.Errorf("saw %v and %q", seen, live)
	}
	tries := f.tries()
	if len(tries) != 4 || tries[0] == "" || len(slices.Compact(tries)) != 1 {
		t.Errorf("asked under the request ids %v", tries)
	}
	if len(f.canceled) != 0 {
		t.Error("the task was canceled though it had ended")
	}
}

func TestAWatchIsTakenUpBehindTheLastEventSeen(t *testing.T) {
	t.Parallel()
	var asked []int64
	told := func(end error, events ...*pb.TaskEvent) func(*pb.WatchTaskRequest, grpc.ServerStreamingServer[pb.WatchTaskResponse]) error {
		return func(request *pb.WatchTaskRequest, stream grpc.ServerStreamingServer[pb.WatchTaskResponse]) error {
			asked = append(asked, request.GetAfterSequence())
			for _, event := range events {
				if err := stream.Send(&pb.WatchTaskResponse{Event: event}); err != nil {
					return err
				}
			}
			return end
		}
	}
	client := started(t, &fake{watch: watches{told(gone, tell(3), tell(4)), told(nil, tell(5), completed(6))}})

	var seen []int64
	for event, err := range client.Watch(within(t), "task-1", 2) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, event.GetSequence())
	}
	if !slices.Equal(seen, []int64{3, 4, 5, 6}) || !slices.Equal(asked, []int64{2, 4}) {
		t.Errorf("saw %v, asked from %v", seen, asked)
	}
}

func TestARunGoesOnOverARestartUnderTheSameRequestID(t *testing.T) {
	t.Parallel()
	first := &fake{}
	server, _, target := serve(t, "127.0.0.1:0", first)
	second := &fake{run: runs{answers(&pb.Task{Id: "task-1", Output: "hello"}, nil)}}
	first.run = runs{accepts(func(ctx context.Context, _ *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
		go func() {
			server.Stop()
			serve(t, target, second)
		}()
		<-ctx.Done()
		return nil, ctx.Err()
	})}

	task, err := connect(t, target).Run(within(t), hello)
	if err != nil || task.GetOutput() != "hello" {
		t.Fatalf("got %v, %v", task, err)
	}
	if tries := append(first.tries(), second.tries()...); len(tries) != 2 || tries[0] != tries[1] || tries[0] == "" {
		t.Errorf("asked under the request ids %v", tries)
	}
}

func TestAServerThatWasNeverThereIsToldAtOnce(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	client := connect(t, listener.Addr().String(), agentservice.WithPatience(time.Hour))

	_, err = client.Run(within(t), hello)
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatStaysAwayIsGivenUpWhenPatienceEnds(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{answers(nil, gone)}}
	client := started(t, f, agentservice.WithPatience(200*time.Millisecond))

	if _, err := client.Run(within(t), hello); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if len(f.tries()) < 2 {
		t.Error("was not asked again")
	}
}

func TestWithoutPatienceTheFirstErrorIsTheLast(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{answers(nil, gone)}}
	client := started(t, f, agentservice.WithPatience(0))

	if _, err := client.Run(within(t), hello); status.Code(err) != codes.Unavailable || len(f.tries()) != 1 {
		t.Errorf("got %v after %v", err, f.tries())
	}
}

func TestARefusalOfNewWorkIsTheCallersToWaitFor(t *testing.T) {
	t.Parallel()
	for code, reason := range map[codes.Code]string{codes.ResourceExhausted: "RATE_LIMITED_CALLS", codes.Unavailable: "OVERLOADED"} {
		f := &fake{run: runs{answers(nil, refusal(code, reason, retryIn(50*time.Millisecond)))}}
		client := started(t, f)

		_, err := client.Run(within(t), hello)
		var refused *agentservice.Error
		if !errors.As(err, &refused) || refused.RetryDelay != 50*time.Millisecond || len(f.tries()) != 1 {
			t.Errorf("%s: got %v after %v", reason, err, f.tries())
		}
	}
}

func TestTheWayBackToAnAcceptedTaskWaitsForRoom(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{
		accepts(answers(nil, gone)),
		answers(nil, refusal(codes.ResourceExhausted, "RATE_LIMITED_CALLS", retryIn(time.Millisecond))),
		answers(&pb.Task{Output: "hello"}, nil),
	}}
	if task, err := started(t, f).Run(within(t), hello); err != nil || task.GetOutput() != "hello" {
		t.Errorf("got %v, %v", task, err)
	}
}

func TestAnErrorNamesTheTaskThatWasAcceptedBeforeIt(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{accepts(answers(nil, gone)), answers(nil, status.Error(codes.Internal, "broken"))}}

	_, err := started(t, f).Run(within(t), hello)
	var broken *agentservice.Error
	if !errors.As(err, &broken) || broken.Code != codes.Internal || broken.TaskID != "task-1" {
		t.Errorf("got %#v", err)
	}
}

func TestACallThatArrivesWhileTheServerStopsIsMadeAgain(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{answers(nil, turnedAway), answers(&pb.Task{Output: "hello"}, nil)}}

	if task, err := started(t, f).Run(within(t), hello); err != nil || task.GetOutput() != "hello" {
		t.Errorf("got %v, %v", task, err)
	}
}

func TestAStreamThatArrivesWhileTheServerStopsIsOpenedAgain(t *testing.T) {
	t.Parallel()
	f := &fake{stream: flows{streams(turnedAway), streams(turnedAway, tell(1)), streams(nil, tell(1), completed(2))}}

	var seen []int64
	for event, err := range started(t, f).Stream(within(t), hello) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, event.GetSequence())
	}
	if !slices.Equal(seen, []int64{1, 2}) {
		t.Errorf("saw %v", seen)
	}
}

func TestACancellationThatTheServiceAnswersIsTheLast(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{answers(nil, refusal(codes.Canceled, "CALL_CANCELED"))}}

	if _, err := started(t, f).Run(within(t), hello); !errors.Is(err, context.Canceled) || len(f.tries()) != 1 {
		t.Errorf("got %v after %v", err, f.tries())
	}
}

func TestAClosedClientEndsItsCalls(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	f := &fake{run: runs{func(ctx context.Context, _ *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}}}
	client := started(t, f)
	go func() {
		<-begun
		_ = client.Close()
	}()

	if _, err := client.Run(within(t), hello); !errors.Is(err, context.Canceled) || len(f.tries()) != 1 {
		t.Errorf("got %v after %v", err, f.tries())
	}
	if _, err := client.Run(within(t), hello); !errors.Is(err, context.Canceled) {
		t.Errorf("a later call: got %v", err)
	}
}

// whenAnswered does something whenever a call of the client has its answer, before the client looks at it.
func whenAnswered(do func()) agentservice.Option {
	return agentservice.WithDialOptions(grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption,
	) error {
		defer do()
		return next(ctx, method, request, reply, conn, options...)
	}))
}

func TestACallThatIsGivenUpInTheWaitTellsWhatTheServerSaidLast(t *testing.T) {
	t.Parallel()
	ctx, giveUp := context.WithCancel(within(t))
	defer giveUp()
	client := started(t, &fake{run: runs{answers(nil, refusal(codes.Unavailable, "DRAINING"))}}, whenAnswered(giveUp))

	_, err := client.Run(ctx, hello)
	if !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled || !strings.Contains(err.Error(), "DRAINING") {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatIsNotReadyIsWaitedForAndStillTellsOfItsTasks(t *testing.T) {
	t.Parallel()
	f := &fake{
		run: runs{answers(nil, refusal(codes.Unavailable, "OVERLOADED")), answers(&pb.Task{Output: "hello"}, nil)},
		get: gets{func(*pb.GetTaskRequest) (*pb.GetTaskResponse, error) {
			return &pb.GetTaskResponse{Task: &pb.Task{Id: "task-1"}}, nil
		}},
	}
	_, ready, target := serve(t, "127.0.0.1:0", f)
	ready.SetServingStatus(serviceName, healthpb.HealthCheckResponse_NOT_SERVING)

	serveNow := whenAnswered(func() { ready.SetServingStatus(serviceName, healthpb.HealthCheckResponse_SERVING) })

	hasty := connect(t, "dns:///"+target, agentservice.WithPatience(0))
	if _, err := hasty.Run(within(t), hello); status.Code(err) != codes.Unavailable || len(f.tries()) != 0 {
		t.Errorf("got %v after %d tries", err, len(f.tries()))
	}
	if task, err := hasty.GetTask(within(t), "task-1"); err != nil || task.GetId() != "task-1" {
		t.Errorf("got %v, %v", task, err)
	}
	if _, err := connect(t, target).Run(within(t), hello); !strings.Contains(fmt.Sprint(err), "OVERLOADED") {
		t.Errorf("a plain address was not asked: got %v", err)
	}
	if task, err := connect(t, "dns:///"+target, serveNow).Run(within(t), hello); err != nil || task.GetOutput() != "hello" {
		t.Errorf("got %v, %v", task, err)
	}
}

func TestReadsAreMadeAgainWhereTheServerHasNoRoom(t *testing.T) {
	t.Parallel()
	full := refusal(codes.Unavailable, "OVERLOADED")
	f := &fake{get: gets{
		func(*pb.GetTaskRequest) (*pb.GetTaskResponse, error) { return nil, full },
		func(*pb.GetTaskRequest) (*pb.GetTaskResponse, error) { return nil, full },
		func(*pb.GetTaskRequest) (*pb.GetTaskResponse, error) { return &pb.GetTaskResponse{}, nil },
	}}
	if _, err := started(t, f).GetTask(within(t), "task-1"); err != nil || len(f.tries()) != 3 {
		t.Errorf("got %v after %d tries", err, len(f.tries()))
	}
}

func TestLeavingAStreamCancelsItsTask(t *testing.T) {
	t.Parallel()
	f := &fake{stream: flows{streams(errStays, tell(1), tell(2))}}
	client := started(t, f)

	for range client.Stream(within(t), hello) {
		break
	}
	if id := <-f.canceled; id != "task-1" {
		t.Errorf("canceled %q", id)
	}
	func() {
		defer func() { _ = recover() }()
		for range client.Stream(within(t), hello) {
			panic("in the loop")
		}
	}()
	if id := <-f.canceled; id != "task-1" {
		t.Errorf("canceled %q", id)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	for _, err := range client.Stream(ctx, hello) {
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if id := <-f.canceled; id != "task-1" {
		t.Errorf("canceled %q", id)
	}
}

func TestLeavingADetachedOrSettledStreamCancelsNothing(t *testing.T) {
	t.Parallel()
	f := &fake{stream: flows{streams(errStays, tell(1)), streams(errStays, tell(1), completed(2))}}
	client := started(t, f)

	for range client.Stream(within(t), agentservice.Request{Task: "say hello", Detached: true}) {
		break
	}
	for event := range client.Stream(within(t), hello) {
		if event.GetCompleted() != nil {
			break
		}
	}
	if len(f.canceled) != 0 {
		t.Errorf("canceled %q", <-f.canceled)
	}
}

// headerSeen is told when a client has the headers of a call.
type headerSeen func()

func (seen headerSeen) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (seen headerSeen) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (seen headerSeen) HandleConn(context.Context, stats.ConnStats) {}

func (seen headerSeen) HandleRPC(_ context.Context, what stats.RPCStats) {
	if header, ok := what.(*stats.InHeader); ok && len(header.Header.Get("x-task-id")) > 0 {
		seen()
	}
}

func TestARunThatIsGivenUpCancelsItsTask(t *testing.T) {
	t.Parallel()
	for detached, want := range map[bool]int{false: 1, true: 0} {
		f := &fake{run: runs{accepts(func(ctx context.Context, _ *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})}}
		ctx, giveUp := context.WithCancel(within(t))
		defer giveUp()
		client := started(t, f, agentservice.WithDialOptions(grpc.WithStatsHandler(headerSeen(giveUp))))

		_, err := client.Run(ctx, agentservice.Request{Task: "say hello", Detached: detached})
		var ended *agentservice.Error
		if !errors.Is(err, context.Canceled) || !errors.As(err, &ended) || ended.TaskID != "task-1" || len(f.canceled) != want {
			t.Errorf("detached %v: got %v, and %d were canceled", detached, err, len(f.canceled))
		}
	}
}

func TestACancelDoesNotStandInLineBehindCallsThatWaitForTasks(t *testing.T) {
	t.Parallel()
	f := &fake{stream: flows{streams(errStays, tell(1))}}
	_, _, target := serve(t, "127.0.0.1:0", f, grpc.MaxConcurrentStreams(2)) // one more for the watch of its health
	client := connect(t, target)

	for range client.Stream(within(t), hello) {
		if _, err := client.Cancel(within(t), "other"); err != nil {
			t.Error(err)
		}
		break
	}
	if first := <-f.canceled; first != "other" {
		t.Errorf("canceled %q first", first)
	}
}
