package dev.agentservice.client;

import static dev.agentservice.client.FakeService.TASK_ID;
import static dev.agentservice.client.FakeService.error;
import static dev.agentservice.client.FakeService.event;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import dev.agentservice.v1.AttemptEnded;
import dev.agentservice.v1.AttemptStarted;
import dev.agentservice.v1.GetTaskResponse;
import dev.agentservice.v1.OnDisconnect;
import dev.agentservice.v1.ReasoningDelta;
import dev.agentservice.v1.RunTaskRequest;
import dev.agentservice.v1.RunTaskResponse;
import dev.agentservice.v1.StreamTaskRequest;
import dev.agentservice.v1.StreamTaskResponse;
import dev.agentservice.v1.Task;
import dev.agentservice.v1.TaskCompleted;
import dev.agentservice.v1.TaskEvent;
import dev.agentservice.v1.TaskSubmitted;
import dev.agentservice.v1.TextDelta;
import dev.agentservice.v1.WatchTaskRequest;
import dev.agentservice.v1.WatchTaskResponse;
import io.grpc.Status.Code;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class AgentServiceClientTest {
    private static final String KEY = "a-key-that-nobody-may-see";
    private static final RunTaskResponse DONE = RunTaskResponse.newBuilder()
            .setTask(Task.newBuilder().setId(TASK_ID).setOutput("done"))
            .build();
    private static final StreamTaskResponse SUBMITTED = event(submitted(), 1);
    private static final StreamTaskResponse STARTED =
            event(TaskEvent.newBuilder().setAttemptStarted(AttemptStarted.getDefaultInstance()), 2);
    private static final StreamTaskResponse TEXT =
            event(TaskEvent.newBuilder().setTextDelta(TextDelta.newBuilder().setText("so far")), 2);
    private static final StreamTaskResponse REASONING =
            event(TaskEvent.newBuilder().setReasoningDelta(ReasoningDelta.newBuilder().setText("hm")), 2);
    private static final StreamTaskResponse LET_GO =
            event(TaskEvent.newBuilder().setAttemptEnded(AttemptEnded.getDefaultInstance()), 3);
    private static final StreamTaskResponse COMPLETED =
            event(TaskEvent.newBuilder().setCompleted(TaskCompleted.getDefaultInstance()), 4);

    /** How grpc ends what arrives while a server stops. */
    private static final RuntimeException TURNED_AWAY =
            new io.grpc.StatusRuntimeException(io.grpc.Status.CANCELLED.withDescription("CANCELLED"));

    private FakeService service;
    private AgentServiceClient client;

    @BeforeEach
    void start() throws IOException {
        service = new FakeService();
        client = AgentServiceClient.connect(service.target(), KEY);
    }

    @AfterEach
    void stop() {
        client.close();
        service.close();
    }

    @Test
    void aKeyIsSentWithoutTheWhiteSpaceAroundItAndOneThatNoHeaderCanCarryNotAtAll() {
        service.answer(DONE);
        try (var padded = AgentServiceClient.connect(service.target(), "\r\n " + KEY + "\t\n")) {
            padded.run("say it");
        }
        assertEquals(List.of(KEY), List.copyOf(service.keys));
        for (var mangled : List.of("k\u00fc", "a b", "a\nb", "\ufeffkey", "a\0", "\ud83d\ude00")) {
            var builder = AgentServiceClient.builder(service.target()).apiKey(mangled);
            var refused = assertThrows(AgentServiceException.class, builder::build);
            assertEquals(Code.UNAUTHENTICATED, refused.code());
            assertEquals("API_KEY_INVALID", refused.reason());
            assertFalse(refused.toString().contains(mangled));
        }
    }

    @Test
    void aServerThatIsNotThereIsToldWithWhatToLookAt() {
        try (var lost = AgentServiceClient.connect("127.0.0.1:1", KEY)) {
            var refused = assertThrows(AgentServiceException.class, () -> lost.run("say it"));
            assertTrue(refused.getMessage()
                    .contains("is a server running at 127.0.0.1:1? AGENT_SERVICE_TARGET names the address"));
        }
    }

    @Test
    void everyCallCarriesTheKeyAndARequestIdOfItsOwn() {
        service.answer(DONE);
        assertEquals("done", client.run("say it").getOutput());
        client.run("say it");
        assertEquals(List.of(KEY, KEY), List.copyOf(service.keys));
        assertEquals(2, requestIds().size());
    }

    @Test
    void nothingThatIsPrintedTellsTheKey() {
        service.refuses = true;
        service.fail(error(Code.UNAUTHENTICATED, "API_KEY_INVALID"));
        var refused = assertThrows(AgentServiceException.class, () -> client.run("say it"));
        var builder = AgentServiceClient.builder("localhost:1").apiKey(KEY);
        assertFalse((client + " " + refused + " " + builder).contains(KEY));
    }

    @Test
    void aStreamIsTakenUpWhereItBrokeAndShowsEachEventOnce() {
        service.fail(error(Code.UNAVAILABLE, "DRAINING"), SUBMITTED, STARTED, REASONING, TEXT)
                .fail(new io.grpc.StatusRuntimeException(io.grpc.Status.UNAVAILABLE), SUBMITTED, STARTED, LET_GO)
                .answer(SUBMITTED, STARTED, LET_GO, COMPLETED);
        try (var events = client.stream("say it")) {
            assertEquals(List.of(1L, 2L, 2L, 2L, 3L, 4L), sequences(events));
        }
        assertEquals(3, service.requests.size());
        assertEquals(1, requestIds().size());
        assertTrue(service.canceled.isEmpty());
    }

    @Test
    void aWatcherAsksForWhatIsBehindTheLastEventThatItSaw() {
        service.fail(error(Code.UNAVAILABLE, "DRAINING"), watched(STARTED), watched(LET_GO))
                .answer(watched(COMPLETED));
        try (var events = client.watch(TASK_ID, 1)) {
            assertEquals(List.of(2L, 3L, 4L), sequences(events));
        }
        var asked = service.requests.stream()
                .map(request -> ((WatchTaskRequest) request).getAfterSequence())
                .toList();
        assertEquals(List.of(1L, 3L), asked);
    }

    @Test
    void aRunIsRepeatedUnderTheSameRequestId() {
        service.fail(error(Code.UNAVAILABLE, "DRAINING")).answer(DONE);
        assertEquals("done", client.run("say it").getOutput());
        assertEquals(2, service.requests.size());
        assertEquals(1, requestIds().size());
    }

    @Test
    void aRunThatArrivesWhileTheServerStopsIsRepeated() {
        service.fail(TURNED_AWAY).answer(DONE);
        assertEquals("done", client.run("say it").getOutput());
        assertEquals(2, service.requests.size());
        assertEquals(1, requestIds().size());
    }

    @Test
    void aStreamThatArrivesWhileTheServerStopsIsOpenedAgain() {
        service.fail(TURNED_AWAY)
                .fail(TURNED_AWAY, SUBMITTED, STARTED)
                .answer(SUBMITTED, STARTED, LET_GO, COMPLETED);
        try (var events = client.stream("say it")) {
            assertEquals(List.of(1L, 2L, 3L, 4L), sequences(events));
        }
    }

    @Test
    void aCancellationThatTheServiceAnswersIsTheLast() {
        service.fail(error(Code.CANCELLED, "CALL_CANCELED"));
        var canceled = assertThrows(AgentServiceException.class, () -> client.run("say it"));
        assertEquals(Code.CANCELLED, canceled.code());
        assertEquals(1, service.requests.size());
    }

    @Test
    void aCallWhoseContextIsCanceledIsNotRepeated() throws Exception {
        var asked = new CompletableFuture<Message>();
        service.answer((request, observer) -> asked.complete(request));
        var context = io.grpc.Context.current().withCancellation();
        var ended = CompletableFuture.supplyAsync(() -> {
            try {
                return context.call(() -> thrownBy(() -> client.run("think on")));
            } catch (Exception neverThrown) {
                throw new AssertionError(neverThrown);
            }
        });
        asked.get();
        context.cancel(null);
        // A repeated call would never reach the server, and would end with the client's patience.
        assertEquals(Code.CANCELLED, ended.get(20, TimeUnit.SECONDS).code());
        assertEquals(1, service.requests.size());
    }

    @Test
    void aRefusalOfNewWorkIsThrownAtOnceWithWhenToComeBack() {
        var delay = com.google.protobuf.Duration.newBuilder().setSeconds(2).setNanos(5_000_000);
        service.refuses = true;
        service.fail(error(
                Code.RESOURCE_EXHAUSTED,
                "RATE_LIMITED_CALLS",
                RetryInfo.newBuilder().setRetryDelay(delay).build(),
                RequestInfo.newBuilder().setRequestId("request-7").build()));
        var refused = assertThrows(AgentServiceException.class, () -> client.run("say it"));
        assertEquals("RATE_LIMITED_CALLS", refused.reason());
        assertEquals(Duration.ofMillis(2005), refused.retryAfter().orElseThrow());
        assertEquals("request-7", refused.requestId());
        assertEquals("default", refused.metadata().get("rule"));
        assertEquals(1, service.requests.size());
    }

    @Test
    void aTaskThatWasAcceptedIsComeBackToThroughARefusalForWantOfRoom() {
        var soon = RetryInfo.newBuilder()
                .setRetryDelay(com.google.protobuf.Duration.newBuilder().setNanos(1_000_000))
                .build();
        service.fail(error(Code.UNAVAILABLE, "DRAINING"), SUBMITTED)
                .fail(error(Code.UNAVAILABLE, "OVERLOADED", soon))
                .answer(SUBMITTED, STARTED, LET_GO, COMPLETED);
        try (var events = client.stream("say it")) {
            assertEquals(List.of(1L, 2L, 3L, 4L), sequences(events));
        }
    }

    @Test
    void violationsAreToldByField() {
        service.refuses = true;
        var bad = BadRequest.newBuilder();
        bad.addFieldViolationsBuilder().setField("task").setDescription("is empty");
        service.fail(error(Code.INVALID_ARGUMENT, "FIELD_INVALID", bad.build()));
        var refused = assertThrows(AgentServiceException.class, () -> client.run(""));
        assertEquals(List.of(new AgentServiceException.Violation("task", "is empty")), refused.violations());
        assertEquals(Code.INVALID_ARGUMENT, refused.code());
    }

    @Test
    void aReadIsRepeatedByTheServiceConfig() {
        service.fail(new io.grpc.StatusRuntimeException(io.grpc.Status.UNAVAILABLE))
                .answer(GetTaskResponse.newBuilder().setTask(DONE.getTask()).build());
        try (var impatient = impatient()) {
            assertEquals("done", impatient.getTask(TASK_ID).getOutput());
        }
    }

    @Test
    void aServerThatNeverWasThereIsSaidToBeMissingAtOnce() throws IOException {
        int port;
        try (var socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = socket.getLocalPort();
        }
        try (var lost = AgentServiceClient.connect("localhost:" + port, KEY)) {
            var begun = System.nanoTime();
            var missing = assertThrows(AgentServiceException.class, () -> lost.run("say it"));
            assertEquals(Code.UNAVAILABLE, missing.code());
            assertTrue(System.nanoTime() - begun < TimeUnit.SECONDS.toNanos(20));
        }
    }

    @Test
    void aServerThatIsNotReadyGetsNoWorkButIsAsked() throws Exception {
        service.answer(DONE);
        try (var impatient = impatient()) {
            impatient.run("say it");
            service.serve(false);
            AgentServiceException refused = null;
            while (refused == null) {
                refused = thrownBy(() -> impatient.run("say it"));
            }
            assertEquals(Code.UNAVAILABLE, refused.code());
            impatient.cancel(TASK_ID);
            assertEquals(TASK_ID, service.canceled.take());
        }
    }

    @Test
    void aFutureThatIsCanceledCancelsItsTask() throws InterruptedException {
        service.answer((request, observer) -> {});
        CompletableFuture<Task> future = client.runAsync(task("think on"));
        service.begun.take();
        future.cancel(true);
        assertEquals(TASK_ID, service.canceled.take());
    }

    @Test
    void anInterruptedCallCancelsItsTaskAndKeepsTheInterruption() throws Exception {
        service.answer((request, observer) -> {});
        var ended = new CompletableFuture<AgentServiceException>();
        var isInterrupted = new CompletableFuture<Boolean>();
        var thread = new Thread(() -> {
            ended.complete(thrownBy(() -> client.run("think on")));
            isInterrupted.complete(Thread.currentThread().isInterrupted());
        });
        thread.start();
        service.begun.take();
        thread.interrupt();
        assertEquals(Code.CANCELLED, ended.get().code());
        assertTrue(isInterrupted.get());
        assertEquals(TASK_ID, service.canceled.take());
    }

    @Test
    void aStreamThatIsLeftCancelsItsTask() {
        service.answer((request, observer) -> observer.onNext(SUBMITTED));
        try (var events = client.stream("think on")) {
            assertEquals(1, events.next().getSequence());
        }
        assertEquals(TASK_ID, service.canceled.poll());
    }

    @Test
    void aStreamOfADetachedTaskIsLeftWithoutAWord() {
        service.answer((request, observer) -> observer.onNext(SUBMITTED));
        var detached = task("think on").toBuilder()
                .setOnDisconnect(OnDisconnect.ON_DISCONNECT_DETACH)
                .build();
        try (var events = client.stream(detached)) {
            events.next();
        }
        client.close();
        assertNull(service.canceled.poll());
    }

    @Test
    void aStreamThatAnotherThreadClosesEnds() throws Exception {
        service.answer((request, observer) -> observer.onNext(SUBMITTED));
        var events = client.stream("think on");
        events.next();
        var more = CompletableFuture.supplyAsync(events::hasNext);
        events.close();
        assertFalse(more.get());
    }

    @Test
    void aClientThatIsClosedEndsItsCallsAndTheirTasks() throws Exception {
        service.answer((request, observer) -> {});
        var ended = CompletableFuture.supplyAsync(() -> thrownBy(() -> client.run("think on")));
        service.begun.take();
        client.close();
        assertEquals(Code.CANCELLED, ended.get().code());
        assertEquals(TASK_ID, service.canceled.poll());
    }

    @Test
    void aDeadlineEndsTheWaitHoweverLongTheServerIsAway() {
        service.fail(error(Code.UNAVAILABLE, "DRAINING"));
        var hurried = client.withDeadline(Duration.ofMillis(300));
        var late = assertThrows(AgentServiceException.class, () -> hurried.run("say it"));
        assertEquals(Code.DEADLINE_EXCEEDED, late.code());
    }

    private AgentServiceClient impatient() {
        return AgentServiceClient.builder(service.target()).patience(Duration.ZERO).build();
    }

    private static AgentServiceException thrownBy(Runnable call) {
        try {
            call.run();
            return null;
        } catch (AgentServiceException error) {
            return error;
        }
    }

    private Set<String> requestIds() {
        return service.requests.stream()
                .map(request -> request instanceof StreamTaskRequest stream
                        ? stream.getRun().getRequestId()
                        : ((RunTaskRequest) request).getRequestId())
                .peek(id -> assertFalse(id.isEmpty()))
                .collect(Collectors.toSet());
    }

    private static RunTaskRequest task(String text) {
        return RunTaskRequest.newBuilder().setTask(text).build();
    }

    private static TaskEvent.Builder submitted() {
        return TaskEvent.newBuilder().setSubmitted(TaskSubmitted.getDefaultInstance());
    }

    private static WatchTaskResponse watched(StreamTaskResponse streamed) {
        return WatchTaskResponse.newBuilder().setEvent(streamed.getEvent()).build();
    }

    private static List<Long> sequences(TaskEvents events) {
        var sequences = new ArrayList<Long>();
        events.forEach(event -> sequences.add(event.getSequence()));
        return sequences;
    }
}
