package dev.agentservice.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.net.ConnectException;
import java.net.UnknownHostException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import javax.net.ssl.SSLException;

/**
 * A call that was refused or broke, as data. A task that ran and failed is none: it is a {@code Task} in the state
 * FAILED.
 */
public final class AgentServiceException extends RuntimeException {
    /** What is wrong with one field of the request: its path, such as {@code inputs.seconds}, and why. */
    public record Violation(String field, String description) {}

    private static final long serialVersionUID = 1;

    /** What to look at where no connection could be made: the same words in every client. */
    private static final String HINT =
            "(is a server running at %s? AGENT_SERVICE_TARGET names the address that commands and examples call)";

    private final Status.Code code;
    private final String told;
    private final String taskId;
    private final boolean reached;
    private final boolean isCallersEnd;
    private final transient Details details;

    /** What the service says beside the code. */
    private record Details(
            String reason,
            String requestId,
            Optional<Duration> retryAfter,
            List<Violation> violations,
            Map<String, String> metadata) {
        static final Details NONE = new Details("", "", Optional.empty(), List.of(), Map.of());
    }

    private AgentServiceException(
            Status status, Details details, String taskId, boolean reached, boolean isCallersEnd) {
        super(status.getDescription(), status.getCause());
        this.code = status.getCode();
        this.told = status.getDescription() == null ? "" : status.getDescription();
        this.details = details;
        this.taskId = taskId;
        this.reached = reached;
        this.isCallersEnd = isCallersEnd;
    }

    /**
     * How a call ended: its status, its trailers, and the task that its headers named, if any came. {@code isCallersEnd}
     * says whether the caller had ended it before.
     */
    static AgentServiceException of(
            Status status, Metadata trailers, Optional<String> headersTaskId, String server, boolean isCallersEnd) {
        String taskId = headersTaskId
                .filter(id -> !id.isEmpty())
                .orElseGet(() -> Optional.ofNullable(trailers.get(Attempt.TASK_ID)).orElse(""));
        boolean reached = headersTaskId.isPresent() || !isUnreachable(status);
        var details = details(status, trailers);
        var told = reached ? status : status.augmentDescription(HINT.formatted(server));
        return new AgentServiceException(told, details, taskId, reached, isCallersEnd);
    }

    /** A key that no header can carry: the service would refuse it too, if it could be sent. */
    static AgentServiceException refusedKey() {
        var status = Status.UNAUTHENTICATED.withDescription(
                "the API key has a character that cannot be sent: keys have visible ASCII characters only");
        var details = new Details("API_KEY_INVALID", "", Optional.empty(), List.of(), Map.of());
        return new AgentServiceException(status, details, "", false, false);
    }

    /** The caller, or the end of the client, ended the call. */
    static AgentServiceException canceled(String why) {
        return new AgentServiceException(Status.CANCELLED.withDescription(why), Details.NONE, "", true, true);
    }

    /** The gRPC code. */
    public Status.Code code() {
        return code;
    }

    /**
     * What to branch on: the name of an {@code ErrorReason} without its prefix, such as {@code RATE_LIMITED_CALLS}.
     * Empty where the service itself did not answer.
     */
    public String reason() {
        return details.reason();
    }

    /** When the same call may succeed. Empty where the service did not say. */
    public Optional<Duration> retryAfter() {
        return details.retryAfter();
    }

    /** Everything that is wrong with the request, where {@link #reason} is FIELD_INVALID. */
    public List<Violation> violations() {
        return details.violations();
    }

    /** What the reason is about, such as {@code rule} or {@code agent}; see {@code error_reason.proto}. */
    public Map<String, String> metadata() {
        return details.metadata();
    }

    /** What to look for in the service's log. */
    public String requestId() {
        return details.requestId();
    }

    /** The task that the call had begun, which may go on: {@code watch} shows it. Empty where there is none. */
    public String taskId() {
        return taskId;
    }

    /** The code, the reason, what the service says, and the request's id. */
    @Override
    public String getMessage() {
        String named = reason().isEmpty() ? code.name() : code + " " + reason();
        return named + ": " + told + (requestId().isEmpty() ? "" : " (request " + requestId() + ")");
    }

    /** Whether the server went away, or is about to: the same call again finds it back, or another one. */
    boolean isInterruption() {
        if (code == Status.Code.CANCELLED) {
            // So grpc ends what arrives while a server stops. The service's own has a reason.
            return reason().isEmpty() && !isCallersEnd;
        }
        return code == Status.Code.UNAVAILABLE && (reason().isEmpty() || reason().equals("DRAINING"));
    }

    /** Whether there was a server. */
    boolean reached() {
        return reached;
    }

    private static boolean isUnreachable(Status status) {
        if (status.getCode() != Status.Code.UNAVAILABLE) {
            return false;
        }
        for (Throwable cause = status.getCause(); cause != null; cause = cause.getCause()) {
            if (cause instanceof ConnectException
                    || cause instanceof UnknownHostException
                    || cause instanceof SSLException) {
                return true;
            }
        }
        return false;
    }

    private static Details details(Status status, Metadata trailers) {
        List<Any> sent;
        try {
            sent = StatusProto.fromStatusAndTrailers(status, trailers).getDetailsList();
        } catch (IllegalArgumentException broken) {
            return Details.NONE;
        }
        var info = find(sent, ErrorInfo.getDefaultInstance());
        var retry = find(sent, RetryInfo.getDefaultInstance());
        return new Details(
                info.getReason(),
                find(sent, RequestInfo.getDefaultInstance()).getRequestId(),
                retry.hasRetryDelay() ? Optional.of(Values.duration(retry.getRetryDelay())) : Optional.empty(),
                find(sent, BadRequest.getDefaultInstance()).getFieldViolationsList().stream()
                        .map(one -> new Violation(one.getField(), one.getDescription()))
                        .toList(),
                Map.copyOf(info.getMetadataMap()));
    }

    @SuppressWarnings("unchecked")
    private static <D extends Message> D find(List<Any> sent, D none) {
        for (Any packed : sent) {
            if (packed.is(none.getClass())) {
                try {
                    return (D) packed.unpack(none.getClass());
                } catch (InvalidProtocolBufferException broken) {
                    return none;
                }
            }
        }
        return none;
    }
}
