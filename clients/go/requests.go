package agentservice

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "agent-service.dev/clients/go/agentservicev1"
)

// Request is a task to run. What is left empty is the service's to choose; bounds stand at RunTaskRequest.
type Request struct {
	// Task is what to do.
	Task string
	// Agent is who does it.
	Agent string
	// SessionID is the conversation that it belongs to.
	SessionID string
	// RequestID names the task: the same request again finds it instead of running another. It is made where it is empty.
	RequestID string
	// Timeout is how long the task may take.
	Timeout time.Duration
	// Labels are kept with it.
	Labels map[string]string
	// Detached lets the task run on when its caller goes away.
	Detached bool
	// TokensMax and CostNanosMax, in billionths of the currency unit, are its budget.
	TokensMax, CostNanosMax int64
	// OutputSchema is a JSON Schema that the answer must fit, as anything that JSON makes an object of.
	OutputSchema any
}

// ToolCall is a tool to run.
type ToolCall struct {
	Name string
	// Inputs is anything that JSON makes an object of; a json.RawMessage is sent as it is. nil is none.
	Inputs any
	// Timeout is how long it may run; 0 is the tool's own.
	Timeout time.Duration
	// RequestID is as in [Request].
	RequestID string
}

func (r Request) message() (*pb.RunTaskRequest, error) {
	made := &pb.RunTaskRequest{
		Agent:        r.Agent,
		Task:         r.Task,
		SessionId:    r.SessionID,
		Timeout:      duration(r.Timeout),
		RequestId:    orNew(r.RequestID),
		Labels:       r.Labels,
		OnDisconnect: pb.OnDisconnect_ON_DISCONNECT_CANCEL,
	}
	if r.Detached {
		made.OnDisconnect = pb.OnDisconnect_ON_DISCONNECT_DETACH
	}
	if r.TokensMax != 0 || r.CostNanosMax != 0 {
		made.Budget = &pb.Budget{Tokens: r.TokensMax, CostNanos: r.CostNanosMax}
	}
	if r.OutputSchema != nil {
		// By way of JSON: a Struct takes no []string, which schemas are full of.
		text, err := json.Marshal(r.OutputSchema)
		if err != nil {
			return nil, fmt.Errorf("agentservice: OutputSchema: %w", err)
		}
		made.OutputSchema = &structpb.Struct{}
		if err := made.OutputSchema.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("agentservice: OutputSchema: %w", err)
		}
	}
	return made, nil
}

func (t ToolCall) message() (*pb.ToolInvokeRequest, error) {
	text := []byte("{}")
	switch inputs := t.Inputs.(type) {
	case nil:
	case json.RawMessage:
		text = inputs
	default:
		var err error
		if text, err = json.Marshal(inputs); err != nil {
			return nil, fmt.Errorf("agentservice: Inputs: %w", err)
		}
	}
	return &pb.ToolInvokeRequest{
		ToolName:  t.Name,
		Arguments: &pb.ToolInvokeRequest_InputsJson{InputsJson: string(text)},
		Timeout:   duration(t.Timeout),
		RequestId: orNew(t.RequestID),
	}, nil
}

func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func orNew(requestID string) string {
	if requestID != "" {
		return requestID
	}
	return rand.Text()
}

// Approve lets a tool call run.
func Approve() *pb.InputAnswer {
	return &pb.InputAnswer{Answer: &pb.InputAnswer_Approve{Approve: &pb.Approve{}}}
}

// Deny keeps a tool call from running; the model reads the comment.
func Deny(comment string) *pb.InputAnswer {
	deny := &pb.Deny{Comment: comment}
	return &pb.InputAnswer{Answer: &pb.InputAnswer_Deny{Deny: deny}}
}

// RunAgain runs an interrupted call once more.
func RunAgain() *pb.InputAnswer {
	return &pb.InputAnswer{Answer: &pb.InputAnswer_RunAgain{RunAgain: &pb.RunAgain{}}}
}

// Result says that an interrupted call took effect; this JSON text is its result.
func Result(outputJSON string) *pb.InputAnswer {
	return &pb.InputAnswer{Answer: &pb.InputAnswer_OutputJson{OutputJson: outputJSON}}
}

// Failure says that an interrupted call took no effect; the model reads why.
func Failure(message string) *pb.InputAnswer {
	return &pb.InputAnswer{Answer: &pb.InputAnswer_ErrorMessage{ErrorMessage: message}}
}

// Reply answers the agent's question.
func Reply(message string) *pb.InputAnswer {
	return &pb.InputAnswer{Answer: &pb.InputAnswer_Message{Message: message}}
}
