package agentservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "agent-service.dev/clients/go/agentservicev1"
)

const (
	waitFirst = 100 * time.Millisecond
	waitMax   = time.Second
)

// What to look at where no connection could be made: the same words in every client.
const unreachableHint = " (is a server running at %s? AGENT_SERVICE_TARGET names the address that commands and examples call)"

// effort is one call that is made until it is answered: how long to go back to a server, and for what.
//
// It lasts for the client's patience from the first failure since the server's last sign of life. A task that gave a
// sign of life was accepted: the way back to it waits for room too, where new work would be refused.
type effort struct {
	client   *Client
	patience time.Duration
	taskID   string
	accepted bool
	until    time.Time
	pause    time.Duration
	// What the call that is under way leaves behind.
	header, trailer metadata.MD
	peer            peer.Peer
}

func (c *Client) effort(patience time.Duration) *effort {
	return &effort{client: c, patience: patience, pause: waitFirst}
}

// options are for the next call; they fill in what it leaves behind.
func (e *effort) options() []grpc.CallOption {
	e.header, e.trailer, e.peer = nil, nil, peer.Peer{}
	return []grpc.CallOption{grpc.Header(&e.header), grpc.Trailer(&e.trailer), grpc.Peer(&e.peer)}
}

// alive notes that the task gave a sign of life.
func (e *effort) alive(taskID string) {
	e.taskID, e.accepted, e.until, e.pause = taskID, true, time.Time{}, waitFirst
}

// after says what is to be done after a call that failed: nil, once it has waited for another try, or the error that is
// the last.
func (e *effort) after(ctx context.Context, err error) error {
	failed := errorOf(err)
	if id := append(e.header.Get("x-task-id"), e.trailer.Get("x-task-id")...); len(id) > 0 && id[0] != "" {
		e.alive(id[0])
	}
	failed.TaskID = e.taskID
	if e.peer.Addr != nil {
		e.client.wasThere.Store(true)
	}

	now := time.Now()
	if e.until.IsZero() {
		e.until = now.Add(e.patience)
	}
	wait := time.Duration((0.5 + rand.Float64()/2) * float64(e.pause))
	useful := failed.Reason != "" || e.client.wasThere.Load() || isNotReady(failed)
	if !failed.isInterruption(ctx.Err() != nil || e.client.isClosed.Load()) {
		useful = e.accepted && failed.RetryDelay > 0 && now.Add(max(wait, failed.RetryDelay)).Before(e.until)
		wait = max(wait, failed.RetryDelay)
	}
	if !useful || !now.Before(e.until) {
		if failed.Code == codes.Unavailable && failed.Reason == "" && !e.client.wasThere.Load() && !isNotReady(failed) {
			failed.Message += fmt.Sprintf(unreachableHint, e.client.target)
		}
		return failed
	}
	e.pause = min(2*e.pause, waitMax)
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		ended := errorOf(status.FromContextError(ctx.Err()).Err())
		ended.Message = fmt.Sprintf("%s; while waiting for the server, which said last: %v", ended.Message, failed)
		ended.TaskID = e.taskID
		return ended
	}
}

// isNotReady says whether a server was reached that does not want calls yet, or any more. grpc says it in words alone.
func isNotReady(err *Error) bool {
	return strings.Contains(err.Message, "health check")
}

// call makes a call until it is answered.
func call[Q, R any](
	ctx context.Context,
	e *effort,
	method func(context.Context, *Q, ...grpc.CallOption) (*R, error),
	request *Q,
) (*R, error) {
	for {
		response, err := method(ctx, request, e.options()...)
		if err == nil {
			e.client.wasThere.Store(true)
			return response, nil
		}
		if err := e.after(ctx, err); err != nil {
			return nil, err
		}
	}
}

// receive waits for the next event of a stream.
type receive func() (*pb.TaskEvent, error)

// receiver is that of a stream that was opened.
func receiver[R interface{ GetEvent() *pb.TaskEvent }](stream interface{ Recv() (R, error) }, err error) (receive, error) {
	return func() (*pb.TaskEvent, error) {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		return response.GetEvent(), nil
	}, err
}

// follow is the events of a stream that is opened again behind the last sequence seen when it breaks: each journaled one
// once.
func (e *effort) follow(
	ctx context.Context,
	after int64,
	open func(ctx context.Context, after int64, options ...grpc.CallOption) (receive, error),
) iter.Seq2[*pb.TaskEvent, error] {
	return func(yield func(*pb.TaskEvent, error) bool) {
		// An abandoned stream ends with its context.
		ctx, hangUp := context.WithCancel(ctx)
		defer hangUp()
		seen := after
		for {
			next, err := open(ctx, seen, e.options()...)
			for err == nil {
				var event *pb.TaskEvent
				if event, err = next(); err != nil {
					break
				}
				e.client.wasThere.Store(true)
				e.alive(event.GetTaskId())
				if isJournaled(event) {
					if event.GetSequence() <= seen {
						continue
					}
					seen = event.GetSequence()
				}
				if !yield(event, nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err := e.after(ctx, err); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// isJournaled says whether the event is one of the numbered ones, which a stream shows once each.
func isJournaled(event *pb.TaskEvent) bool {
	switch event.GetEvent().(type) {
	case *pb.TaskEvent_TextDelta, *pb.TaskEvent_ReasoningDelta, *pb.TaskEvent_Waiting, *pb.TaskEvent_Heartbeat:
		return false
	}
	return true
}

// settles says whether the task has ended with the event, or waits for input.
func settles(event *pb.TaskEvent) bool {
	switch event.GetEvent().(type) {
	case *pb.TaskEvent_Completed, *pb.TaskEvent_Failed, *pb.TaskEvent_Canceled,
		*pb.TaskEvent_Rejected, *pb.TaskEvent_InputRequired:
		return true
	}
	return false
}
