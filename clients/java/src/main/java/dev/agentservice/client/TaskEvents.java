package dev.agentservice.client;

import dev.agentservice.v1.TaskEvent;
import dev.agentservice.v1.TaskEvent.EventCase;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.LongFunction;

/**
 * The events of a task as they happen, each journaled one once: where its server goes away, the stream is taken up
 * behind the last that was seen.
 *
 * <pre>{@code
 * try (var events = client.stream("What is 17.5% of 2340?")) {
 *     for (TaskEvent event : events) {
 *         System.out.println(event.getEventCase());
 *     }
 * }
 * }</pre>
 *
 * <p>It ends with the task, or where the task waits for input. One thread reads it, once; any may close it. Reading
 * waits for the next event; an interruption closes the stream.
 */
public final class TaskEvents implements Iterable<TaskEvent>, Iterator<TaskEvent>, AutoCloseable {
    private static final Set<EventCase> UNJOURNALED =
            EnumSet.of(EventCase.TEXT_DELTA, EventCase.REASONING_DELTA, EventCase.WAITING, EventCase.HEARTBEAT);
    private static final Set<EventCase> SETTLING = EnumSet.of(
            EventCase.COMPLETED,
            EventCase.FAILED,
            EventCase.CANCELED,
            EventCase.REJECTED,
            EventCase.INPUT_REQUIRED);

    private final Connection connection;
    private final LongFunction<Attempt<?, TaskEvent>> open;
    private final boolean attends;
    private final Patience patience;
    private final CountDownLatch over = new CountDownLatch(1);
    private volatile Attempt<?, TaskEvent> attempt;
    private volatile boolean isSettled;
    private long seen;
    private TaskEvent next;

    /** {@code open} begins the stream behind a sequence; {@code attends} says whether a task is canceled with it. */
    TaskEvents(Connection connection, LongFunction<Attempt<?, TaskEvent>> open, long after, boolean attends) {
        this.connection = connection;
        this.open = open;
        this.attends = attends;
        this.patience = connection.patience();
        this.seen = after;
        this.attempt = open.apply(after);
        connection.opened(this);
    }

    /** This stream, which can be read once. */
    @Override
    public Iterator<TaskEvent> iterator() {
        return this;
    }

    /**
     * Wait for the next event, or for the end.
     *
     * @throws AgentServiceException if the call was refused, or its server away for too long
     */
    @Override
    public boolean hasNext() {
        try {
            while (next == null && !isOver()) {
                advance();
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            close();
            throw AgentServiceException.canceled("the thread was interrupted");
        }
        return next != null;
    }

    @Override
    public TaskEvent next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the stream has ended");
        }
        TaskEvent event = next;
        next = null;
        return event;
    }

    /** Leave. A task that was begun with this stream is canceled, unless it is detached, has ended or waits. */
    @Override
    public void close() {
        if (!end()) {
            return;
        }
        if (attends && !isSettled) {
            Connection.awaitLeft(connection.leave(attempt));
        } else {
            attempt.cancel();
        }
    }

    private void advance() throws InterruptedException {
        try {
            attempt.next().ifPresentOrElse(this::take, this::end);
        } catch (AgentServiceException error) {
            if (isOver()) {
                return;
            }
            Optional<Duration> wait = patience.waitAfter(error);
            if (wait.isEmpty()) {
                end();
                throw error;
            }
            if (!over.await(wait.get().toNanos(), TimeUnit.NANOSECONDS)) {
                reopen();
            }
        }
    }

    private void take(TaskEvent event) {
        patience.renew();
        if (!UNJOURNALED.contains(event.getEventCase())) {
            if (event.getSequence() <= seen) {
                return;
            }
            seen = event.getSequence();
        }
        isSettled = SETTLING.contains(event.getEventCase());
        next = event;
    }

    private synchronized void reopen() {
        if (!isOver()) {
            attempt = open.apply(seen);
        }
    }

    /** Whether it was not over before. */
    private synchronized boolean end() {
        boolean wasOver = isOver();
        over.countDown();
        connection.ended(this);
        return !wasOver;
    }

    private boolean isOver() {
        return over.getCount() == 0;
    }
}
