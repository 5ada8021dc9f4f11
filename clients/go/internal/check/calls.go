package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentservice "agent-service.dev/clients/go"
	pb "agent-service.dev/clients/go/agentservicev1"
)

// arguments are those of all methods. A number may come as its text.
type arguments struct {
	Task          string            `json:"task"`
	Agent         string            `json:"agent"`
	SessionID     string            `json:"session_id"`
	SubmittedBy   string            `json:"submitted_by"`
	RequestID     string            `json:"request_id"`
	Timeout       json.Number       `json:"timeout_s"`
	Labels        map[string]string `json:"labels"`
	Detached      bool              `json:"detached"`
	TokensMax     json.Number       `json:"tokens_max"`
	CostNanosMax  json.Number       `json:"cost_nanos_max"`
	OutputSchema  any               `json:"output_schema"`
	TaskID        string            `json:"task_id"`
	AfterSequence json.Number       `json:"after_sequence"`
	InputID       string            `json:"input_id"`
	Answer        *answer           `json:"answer"`
	States        []string          `json:"states"`
	Full          bool              `json:"full"`
	PageSize      json.Number       `json:"page_size"`
	PageToken     string            `json:"page_token"`
	Name          string            `json:"name"`
	Inputs        map[string]any    `json:"inputs"`
	By            []string          `json:"by"`
	Service       string            `json:"service"`
	Deadline      json.Number       `json:"deadline_s"`
}

type answer struct {
	Approve      *struct{} `json:"approve"`
	RunAgain     *struct{} `json:"run_again"`
	Message      *string   `json:"message"`
	OutputJSON   *string   `json:"output_json"`
	ErrorMessage *string   `json:"error_message"`
	Deny         *struct {
		Comment string `json:"comment"`
	} `json:"deny"`
}

// result makes a call and tells its result as the scenario sees it.
func result(ctx context.Context, client *agentservice.Client, method string, with any, until string) (any, error) {
	text, err := json.Marshal(with)
	if err != nil {
		return nil, err
	}
	var given arguments
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		return nil, err
	}
	if given.Deadline != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, seconds(given.Deadline))
		defer cancel()
	}
	switch method {
	case "stream":
		return summedUp(client.Stream(ctx, given.request()), until)
	case "watch":
		return summedUp(client.Watch(ctx, given.TaskID, integer(given.AfterSequence)), until)
	}
	came, err := unary(ctx, client, method, given)
	if err != nil {
		return nil, err
	}
	return plain(came)
}

func unary(ctx context.Context, client *agentservice.Client, method string, given arguments) (any, error) {
	switch method {
	case "run":
		return client.Run(ctx, given.request())
	case "submit":
		return client.Submit(ctx, given.request())
	case "get_task":
		return client.GetTask(ctx, given.TaskID)
	case "cancel":
		return client.Cancel(ctx, given.TaskID)
	case "resume":
		return client.Resume(ctx, given.TaskID, given.InputID, given.Answer.message())
	case "list_tasks":
		return client.ListTasks(ctx, given.listing())
	case "delete_task":
		return nil, client.DeleteTask(ctx, given.TaskID)
	case "delete_session":
		erased, err := client.DeleteSession(ctx, given.SessionID)
		return map[string]any{"tasks_deleted": erased}, err
	case "invoke_tool":
		tool := agentservice.ToolCall{Name: given.Name, Timeout: seconds(given.Timeout), RequestID: given.RequestID}
		if given.Inputs != nil {
			tool.Inputs = given.Inputs
		}
		return client.InvokeTool(ctx, tool)
	case "list_agents":
		agents, err := client.ListAgents(ctx)
		return &pb.ListAgentsResponse{Agents: agents}, err
	case "list_tools":
		tools, err := client.ListTools(ctx)
		return &pb.ListToolsResponse{Tools: tools}, err
	case "get_usage":
		wanted := &pb.GetUsageRequest{Agent: given.Agent}
		for _, group := range given.By {
			wanted.GroupBy = append(wanted.GroupBy, pb.UsageGroup(pb.UsageGroup_value["USAGE_GROUP_"+strings.ToUpper(group)]))
		}
		rows, err := client.GetUsage(ctx, wanted)
		return &pb.GetUsageResponse{Rows: rows}, err
	case "health":
		status, err := client.Health(ctx, given.Service)
		return map[string]any{"status": status.String()}, err
	}
	return nil, fmt.Errorf("unknown method: %s", method)
}

func (a arguments) request() agentservice.Request {
	return agentservice.Request{
		Task:         a.Task,
		Agent:        a.Agent,
		SessionID:    a.SessionID,
		RequestID:    a.RequestID,
		Timeout:      seconds(a.Timeout),
		Labels:       a.Labels,
		Detached:     a.Detached,
		TokensMax:    integer(a.TokensMax),
		CostNanosMax: integer(a.CostNanosMax),
		OutputSchema: a.OutputSchema,
	}
}

func (a arguments) listing() *pb.ListTasksRequest {
	wanted := &pb.ListTasksRequest{
		Agent:       a.Agent,
		SessionId:   a.SessionID,
		Labels:      a.Labels,
		SubmittedBy: a.SubmittedBy,
		PageSize:    int32(integer(a.PageSize)),
		PageToken:   a.PageToken,
	}
	for _, state := range a.States {
		wanted.States = append(wanted.States, pb.TaskState(pb.TaskState_value[state]))
	}
	if a.Full {
		wanted.View = pb.TaskView_TASK_VIEW_FULL
	}
	return wanted
}

func (a *answer) message() *pb.InputAnswer {
	switch {
	case a == nil:
		return nil
	case a.Approve != nil:
		return agentservice.Approve()
	case a.Deny != nil:
		return agentservice.Deny(a.Deny.Comment)
	case a.RunAgain != nil:
		return agentservice.RunAgain()
	case a.OutputJSON != nil:
		return agentservice.Result(*a.OutputJSON)
	case a.ErrorMessage != nil:
		return agentservice.Failure(*a.ErrorMessage)
	case a.Message != nil:
		return agentservice.Reply(*a.Message)
	}
	return nil
}

// errorOf is the client's error as the scenario sees it.
func errorOf(err error) (any, error) {
	var failed *agentservice.Error
	if !errors.As(err, &failed) {
		return nil, err
	}
	told := map[string]any{
		"code":       code.Code(failed.Code).String(),
		"reason":     failed.Reason,
		"message":    failed.Message,
		"request_id": failed.RequestID,
		"task_id":    failed.TaskID,
	}
	if failed.RetryDelay > 0 {
		told["retry_after_s"] = failed.RetryDelay.Seconds()
	}
	var violations []any
	for _, one := range failed.Violations {
		violations = append(violations, map[string]any{"field": one.Field, "description": one.Description})
	}
	told["violations"] = violations
	metadata := map[string]any{}
	for key, value := range failed.Metadata {
		metadata[key] = value
	}
	told["metadata"] = metadata
	return told, nil
}

// summedUp follows a stream to its end, or to the arm behind which it is left.
func summedUp(stream iter.Seq2[*pb.TaskEvent, error], until string) (any, error) {
	var arms, sequences, events []any
	text, reasoning, deltas, last := "", "", 0, &pb.TaskEvent{}
	isLeft := false
	for event, err := range stream {
		if err != nil {
			return nil, err
		}
		reflected := event.ProtoReflect()
		arm := ""
		if set := reflected.WhichOneof(reflected.Descriptor().Oneofs().ByName("event")); set != nil {
			arm = string(set.Name())
		}
		if arm != "heartbeat" {
			last = event
		}
		switch arm {
		case "heartbeat", "waiting":
		case "text_delta":
			deltas++
			text = joined(text, event.GetTextDelta())
		case "reasoning_delta":
			reasoning = joined(reasoning, event.GetReasoningDelta())
		default:
			told, err := plain(event)
			if err != nil {
				return nil, err
			}
			arms, sequences, events = append(arms, arm), append(sequences, event.GetSequence()), append(events, told)
		}
		if isLeft = until != "" && arm == until; isLeft {
			break
		}
	}
	if until != "" && !isLeft {
		return nil, fmt.Errorf("until: the stream ended without %s", until)
	}
	told, err := plain(last)
	return map[string]any{
		"arms": arms, "sequences": sequences, "events": events, "deltas": deltas, "text": text, "reasoning": reasoning,
		"last": told,
	}, err
}

// piece is one of the live text or of the live reasoning.
type piece interface {
	GetOffset() int64
	GetText() string
}

func joined(text string, delta piece) string {
	const gap = "(gap)"
	if delta.GetOffset() == 0 {
		return delta.GetText()
	}
	if text == gap || delta.GetOffset() != int64(len(text)) {
		return gap
	}
	return text + delta.GetText()
}

// plain is a message as protobuf JSON has it, read again.
func plain(came any) (any, error) {
	message, ok := came.(proto.Message)
	if !ok {
		return came, nil
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var told any
	err = decoder.Decode(&told)
	return told, err
}

// seconds and integer read a number that is there or not; the scenario's are well formed.
func seconds(number json.Number) time.Duration {
	value, _ := number.Float64()
	return time.Duration(value * float64(time.Second))
}

func integer(number json.Number) int64 {
	value, _ := number.Int64()
	return value
}
