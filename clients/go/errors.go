package agentservice

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is a call that was refused or broke. Find it with [errors.As].
//
// That a task failed is no error: it stands in Task.Failure. errors.Is finds [context.Canceled] and
// [context.DeadlineExceeded] where the call ended so, and status.Code of grpc the code.
type Error struct {
	Code    codes.Code
	Message string
	// Reason is what to branch on: a name of ErrorReason without its prefix, such as RATE_LIMITED_CALLS; empty where the
	// service itself did not answer.
	Reason string
	// RequestID is where the operator finds the call in the service's log.
	RequestID string
	// TaskID is the task that the call had begun, which may go on: Watch shows it.
	TaskID string
	// RetryDelay is after how long the same call may succeed; 0 where the service did not say. The client does not wait
	// for that itself: retries that callers do not know of multiply.
	RetryDelay time.Duration
	// Violations are the fields that are wrong, all at once.
	Violations []Violation
	// Metadata is what the reason is about, such as the rule of a limit.
	Metadata map[string]string

	status *status.Status
}

// Violation is a field by its path, and what is wrong with it.
type Violation struct {
	Field, Description string
}

// Error tells the code, the reason, the message and the request.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", strings.TrimSpace(e.Code.String()+" "+e.Reason), e.Message)
	if e.RequestID != "" {
		fmt.Fprintf(&text, " (request %s)", e.RequestID)
	}
	return text.String()
}

// Is says whether the call ended as a context does.
func (e *Error) Is(target error) bool {
	return target == context.Canceled && e.Code == codes.Canceled ||
		target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded
}

// GRPCStatus is the status as it came.
func (e *Error) GRPCStatus() *status.Status {
	return e.status
}

// isInterruption says whether the server went away, or is about to: the same call again finds it back, or another one.
// isCallersEnd says whether the caller has ended the call, or closed the client: then CANCELLED means that. Otherwise grpc
// ends with it, without a reason, what arrives while a server stops.
func (e *Error) isInterruption(isCallersEnd bool) bool {
	if e.Code == codes.Canceled {
		return e.Reason == "" && !isCallersEnd
	}
	return e.Code == codes.Unavailable && (e.Reason == "" || e.Reason == "DRAINING")
}

// refusedKey is the error of a key that no header can carry: the service would refuse it too, if it could be sent.
func refusedKey() *Error {
	const message = "the API key has a character that cannot be sent: keys have visible ASCII characters only"
	return &Error{
		Code: codes.Unauthenticated, Message: message, Reason: "API_KEY_INVALID",
		status: status.New(codes.Unauthenticated, message),
	}
}

// errorOf reads what the status of a call says, and the details that came with it.
func errorOf(err error) *Error {
	came := status.Convert(err)
	made := &Error{Code: came.Code(), Message: came.Message(), status: came}
	for _, detail := range came.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Reason, made.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.RequestInfo:
			made.RequestID = detail.GetRequestId()
		case *errdetails.RetryInfo:
			made.RetryDelay = detail.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, one := range detail.GetFieldViolations() {
				made.Violations = append(made.Violations, Violation{one.GetField(), one.GetDescription()})
			}
		}
	}
	return made
}
