package dev.agentservice.client;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.BooleanSupplier;

/**
 * How long to go back to a server: so long from the first failure since its last sign of life.
 *
 * <p>A task that gave a sign of life was accepted: the way back to it waits for room too, where new work would be
 * refused. Whether to wait with new work is the caller's to decide, who is told {@code retryAfter}.
 */
final class Patience {
    private static final Duration WAIT = Duration.ofMillis(100);
    private static final Duration WAIT_MAX = Duration.ofSeconds(1);

    private final Duration whole;
    private final BooleanSupplier isAway;
    private Duration wait = WAIT;
    private Optional<Long> until = Optional.empty();
    private boolean isAccepted;

    /** {@code isAway} says whether a server that cannot be reached was there before. */
    Patience(Duration whole, BooleanSupplier isAway) {
        this.whole = whole;
        this.isAway = isAway;
    }

    /** The task gave a sign of life. */
    void renew() {
        wait = WAIT;
        until = Optional.empty();
        isAccepted = true;
    }

    /** How long to wait before the next try; empty where one is no use or would be too late. */
    Optional<Duration> waitAfter(AgentServiceException error) {
        long now = System.nanoTime();
        long left = until.orElse(now + whole.toNanos()) - now;
        until = Optional.of(now + left);
        Duration next = wait.multipliedBy(ThreadLocalRandom.current().nextLong(50, 101)).dividedBy(100);
        boolean isUseful;
        if (error.isInterruption()) {
            isUseful = left > 0 && (!error.reason().isEmpty() || isAway.getAsBoolean());
        } else {
            Duration asked = error.retryAfter().orElse(Duration.ZERO);
            next = next.compareTo(asked) < 0 ? asked : next;
            isUseful = isAccepted && error.retryAfter().isPresent() && next.toNanos() <= left;
        }
        Duration doubled = wait.multipliedBy(2);
        wait = doubled.compareTo(WAIT_MAX) < 0 ? doubled : WAIT_MAX;
        return isUseful ? Optional.of(next) : Optional.empty();
    }
}
