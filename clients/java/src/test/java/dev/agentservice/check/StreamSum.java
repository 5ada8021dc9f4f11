package dev.agentservice.check;

import dev.agentservice.check.Matching.Mismatch;
import dev.agentservice.client.TaskEvents;
import dev.agentservice.v1.TaskEvent;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A stream as the scenario sees it: summed up once it has ended, or was left behind the first event of an arm. */
final class StreamSum {
    private final List<TaskEvent> journaled = new ArrayList<>();
    private TaskEvent last = TaskEvent.getDefaultInstance();
    private String text = "";
    private String reasoning = "";
    private int deltas;

    private StreamSum() {}

    static Map<String, Object> of(TaskEvents stream, String until) {
        var sum = new StreamSum();
        boolean isMet = until == null;
        try (stream) {
            for (TaskEvent event : stream) {
                sum.add(event);
                if (arm(event).equals(until)) {
                    isMet = true;
                    break;
                }
            }
        }
        if (!isMet) {
            throw new Mismatch("until: the stream ended without " + until);
        }
        return sum.told();
    }

    private void add(TaskEvent event) {
        switch (event.getEventCase()) {
            case HEARTBEAT -> {
                return;
            }
            case TEXT_DELTA -> {
                deltas++;
                var delta = event.getTextDelta();
                text = joined(text, delta.getOffset(), delta.getText());
            }
            case REASONING_DELTA -> {
                var delta = event.getReasoningDelta();
                reasoning = joined(reasoning, delta.getOffset(), delta.getText());
            }
            case WAITING -> {}
            default -> journaled.add(event);
        }
        last = event;
    }

    private Map<String, Object> told() {
        return Map.of(
                "arms", journaled.stream().map(StreamSum::arm).toList(),
                "sequences", journaled.stream().map(TaskEvent::getSequence).toList(),
                "events", journaled.stream().map(Caller::json).toList(),
                "deltas", deltas,
                "text", text,
                "reasoning", reasoning,
                "last", Caller.json(last));
    }

    private static String joined(String text, long offset, String piece) {
        boolean fits = offset == text.getBytes(StandardCharsets.UTF_8).length;
        return offset == 0 ? piece : fits ? text + piece : "(gap)";
    }

    private static String arm(TaskEvent event) {
        return event.getEventCase().name().toLowerCase(Locale.ROOT);
    }
}
