package dev.agentservice.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ValuesTest {
    @Test
    void whatJsonCanTellComesBackAsItWas() {
        Map<String, Object> told =
                Map.of("text", "a", "number", 1.5, "truth", true, "list", Arrays.asList("a", null), "map", Map.of());
        assertEquals(told, Values.map(Values.struct(told)));
    }

    @Test
    void integersThatAStructWouldRoundAreRefused() {
        long exact = (1L << 53) - 1;
        assertEquals((double) exact, Values.object(Values.value(exact)));
        for (long rounded : List.of(exact + 1, -exact - 1, Long.MIN_VALUE)) {
            assertThrows(IllegalArgumentException.class, () -> Values.value(rounded));
        }
    }

    @Test
    void durationsAreExact() {
        var duration = Duration.ofSeconds(3, 5);
        assertEquals(duration, Values.duration(Values.duration(duration)));
    }
}
