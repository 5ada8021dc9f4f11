package agentservice

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	pb "agent-service.dev/clients/go/agentservicev1"
)

// How long a task that is left is given to hear of it.
const leaveTimeout = 2 * time.Second

// Run runs a task until it has ended or waits for input. Its context's end cancels the task, unless it is Detached; Run
// then returns when the service has heard of it, 2 s later at most. A context's deadline is also the task's, a little
// earlier, so that the outcome is seen.
func (c *Client) Run(ctx context.Context, request Request) (*pb.Task, error) {
	message, err := request.message()
	if err != nil {
		return nil, err
	}
	e := c.effort(c.patience)
	response, err := call(ctx, e, c.tasks.RunTask, message)
	if err != nil && !request.Detached {
		c.leaveIfDone(ctx, e.taskID)
	}
	return response.GetTask(), err
}

// Stream runs a task and follows it, event by event, with live text between. An error is the last thing it yields.
// Breaking out of the loop, and the context's end, cancel the task, as with Run.
func (c *Client) Stream(ctx context.Context, request Request) iter.Seq2[*pb.TaskEvent, error] {
	run, err := request.message()
	message := &pb.StreamTaskRequest{Run: run}
	// What was seen before comes again, and is left out: a caller of the task is who keeps it running.
	fromTheStart := func(ctx context.Context, _ int64, options ...grpc.CallOption) (receive, error) {
		return receiver(c.tasks.StreamTask(ctx, message, options...))
	}
	return func(yield func(*pb.TaskEvent, error) bool) {
		if err != nil {
			yield(nil, err)
			return
		}
		e := c.effort(c.patience)
		left := true
		defer func() { // also where the loop's body panics
			if left && !request.Detached {
				c.leave(ctx, e.taskID)
			}
		}()
		for event, err := range e.follow(ctx, 0, fromTheStart) {
			left = !settles(event) && (err == nil || ctx.Err() != nil)
			if !yield(event, err) {
				return
			}
		}
		left = left && ctx.Err() != nil
	}
}

// Submit has a task accepted, to run by itself.
func (c *Client) Submit(ctx context.Context, request Request) (*pb.Task, error) {
	run, err := request.message()
	if err != nil {
		return nil, err
	}
	response, err := call(ctx, c.effort(c.patience), c.quick.SubmitTask, &pb.SubmitTaskRequest{Run: run})
	return response.GetTask(), err
}

// Watch follows a task from behind a sequence, 0 for all, until it has ended or waits for input. An error is the last
// thing it yields. Leaving changes nothing.
func (c *Client) Watch(ctx context.Context, taskID string, afterSequence int64) iter.Seq2[*pb.TaskEvent, error] {
	fromThere := func(ctx context.Context, after int64, options ...grpc.CallOption) (receive, error) {
		message := &pb.WatchTaskRequest{TaskId: taskID, AfterSequence: after}
		return receiver(c.tasks.WatchTask(ctx, message, options...))
	}
	return func(yield func(*pb.TaskEvent, error) bool) {
		c.effort(c.patience).follow(ctx, afterSequence, fromThere)(yield)
	}
}

// GetTask returns a task as it stands.
func (c *Client) GetTask(ctx context.Context, taskID string) (*pb.Task, error) {
	response, err := call(ctx, c.effort(c.patience), c.quick.GetTask, &pb.GetTaskRequest{TaskId: taskID})
	return response.GetTask(), err
}

// ListTasks returns a page of tasks, newest first.
func (c *Client) ListTasks(ctx context.Context, wanted *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	return call(ctx, c.effort(c.patience), c.quick.ListTasks, wanted)
}

// AllTasks is the tasks of this page and all that follow. An error is the last thing it yields.
func (c *Client) AllTasks(ctx context.Context, wanted *pb.ListTasksRequest) iter.Seq2[*pb.Task, error] {
	return func(yield func(*pb.Task, error) bool) {
		page := &pb.ListTasksRequest{}
		proto.Merge(page, wanted)
		for {
			response, err := c.ListTasks(ctx, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, task := range response.GetTasks() {
				if !yield(task, nil) {
					return
				}
			}
			if page.PageToken = response.GetNextPageToken(); page.PageToken == "" {
				return
			}
		}
	}
}

// Cancel stops a task for good.
func (c *Client) Cancel(ctx context.Context, taskID string) (*pb.Task, error) {
	response, err := call(ctx, c.effort(c.patience), c.quick.CancelTask, &pb.CancelTaskRequest{TaskId: taskID})
	return response.GetTask(), err
}

// Resume answers one of a task's pending inputs: with [Approve], [Deny], [RunAgain], [Result], [Failure] or [Reply].
func (c *Client) Resume(ctx context.Context, taskID, inputID string, answer *pb.InputAnswer) (*pb.Task, error) {
	message := &pb.ResumeTaskRequest{TaskId: taskID, InputId: inputID, Answer: answer}
	response, err := call(ctx, c.effort(c.patience), c.quick.ResumeTask, message)
	return response.GetTask(), err
}

// DeleteTask erases a task that has ended.
func (c *Client) DeleteTask(ctx context.Context, taskID string) error {
	_, err := call(ctx, c.effort(0), c.quick.DeleteTask, &pb.DeleteTaskRequest{TaskId: taskID})
	return err
}

// DeleteSession erases a session with all of its tasks, and returns how many they were.
func (c *Client) DeleteSession(ctx context.Context, sessionID string) (int, error) {
	response, err := call(ctx, c.effort(0), c.quick.DeleteSession, &pb.DeleteSessionRequest{SessionId: sessionID})
	return int(response.GetTasksDeleted()), err
}

// InvokeTool runs one tool. A tool that ran and failed is no error of the call: see Error of the response.
func (c *Client) InvokeTool(ctx context.Context, tool ToolCall) (*pb.ToolInvokeResponse, error) {
	message, err := tool.message()
	if err != nil {
		return nil, err
	}
	e := c.effort(c.patience)
	response, err := call(ctx, e, c.tasks.ToolInvoke, message)
	if err != nil {
		c.leaveIfDone(ctx, e.taskID)
	}
	return response, err
}

// ListAgents returns the agents that the key may use.
func (c *Client) ListAgents(ctx context.Context) ([]*pb.Agent, error) {
	response, err := call(ctx, c.effort(c.patience), c.quick.ListAgents, &pb.ListAgentsRequest{})
	return response.GetAgents(), err
}

// ListTools returns the tools that the key may use.
func (c *Client) ListTools(ctx context.Context) ([]*pb.Tool, error) {
	response, err := call(ctx, c.effort(c.patience), c.quick.ListTools, &pb.ListToolsRequest{})
	return response.GetTools(), err
}

// GetUsage returns what was used, summed up as wanted.
func (c *Client) GetUsage(ctx context.Context, wanted *pb.GetUsageRequest) ([]*pb.UsageRow, error) {
	response, err := call(ctx, c.effort(c.patience), c.quick.GetUsage, wanted)
	return response.GetRows(), err
}

// Health returns the status of a name of the health service; the empty one is the whole server. It needs no key.
func (c *Client) Health(ctx context.Context, service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
	response, err := call(ctx, c.effort(0), c.health.Check, &healthpb.HealthCheckRequest{Service: service})
	return response.GetStatus(), err
}

func (c *Client) leaveIfDone(ctx context.Context, taskID string) {
	if ctx.Err() != nil {
		c.leave(ctx, taskID)
	}
}

// leave cancels a task that nobody waits for any more. The server finds out by itself too, a little later.
func (c *Client) leave(ctx context.Context, taskID string) {
	if taskID == "" {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer done()
	_, _ = c.quick.CancelTask(ctx, &pb.CancelTaskRequest{TaskId: taskID})
}
