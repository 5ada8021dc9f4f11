package dev.agentservice.check;

import dev.agentservice.check.Matching.Mismatch;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.function.Consumer;

/** The arguments of a call, of which each must be asked for. */
final class Arguments {
    private final Map<String, Object> left;

    Arguments(Map<String, Object> given) {
        this.left = new HashMap<>(given);
    }

    String text(String name) {
        return String.valueOf(Optional.ofNullable(left.remove(name)).orElse(""));
    }

    /** 0 where it is not given. */
    Number number(String name) {
        return Matching.number(left.remove(name)).orElse(0);
    }

    Optional<Duration> seconds(String name) {
        Object value = left.remove(name);
        return value == null
                ? Optional.empty()
                : Optional.of(Duration.ofNanos(Math.round(Matching.number(value).orElseThrow() * 1e9)));
    }

    @SuppressWarnings("unchecked")
    Map<String, Object> map(String name) {
        return (Map<String, Object>) Optional.ofNullable(left.remove(name)).orElse(Map.of());
    }

    Map<String, String> labels() {
        var labels = new TreeMap<String, String>();
        map("labels").forEach((name, value) -> labels.put(name, String.valueOf(value)));
        return labels;
    }

    /** With it, unless it is not given or false. */
    void ifGiven(String name, Consumer<Object> use) {
        Object value = left.remove(name);
        if (value != null && !value.equals(false)) {
            use.accept(value);
        }
    }

    void mustBeUsedUp() {
        if (!left.isEmpty()) {
            throw new Mismatch("unknown arguments: " + left.keySet());
        }
    }
}
