package dev.agentservice.client;

import dev.agentservice.v1.Approve;
import dev.agentservice.v1.Deny;
import dev.agentservice.v1.InputAnswer;
import dev.agentservice.v1.RunAgain;

/** Answers to what tasks wait for; which ones an input takes says its kind. */
public final class Answers {
    private Answers() {}

    /** The tool call may run. */
    public static InputAnswer approve() {
        return InputAnswer.newBuilder().setApprove(Approve.getDefaultInstance()).build();
    }

    /** The tool call must not run; the model reads the comment. */
    public static InputAnswer deny(String comment) {
        return InputAnswer.newBuilder().setDeny(Deny.newBuilder().setComment(comment)).build();
    }

    /** Run the interrupted call once more. */
    public static InputAnswer runAgain() {
        return InputAnswer.newBuilder().setRunAgain(RunAgain.getDefaultInstance()).build();
    }

    /** The interrupted call took effect; this is its result, as JSON text. */
    public static InputAnswer result(String json) {
        return InputAnswer.newBuilder().setOutputJson(json).build();
    }

    /** The interrupted call took no effect; the model reads why. */
    public static InputAnswer failure(String message) {
        return InputAnswer.newBuilder().setErrorMessage(message).build();
    }

    /** An answer to the agent's question. */
    public static InputAnswer reply(String message) {
        return InputAnswer.newBuilder().setMessage(message).build();
    }
}
