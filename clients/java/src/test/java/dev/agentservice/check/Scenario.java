package dev.agentservice.check;

import dev.agentservice.check.Matching.Mismatch;
import dev.agentservice.client.AgentServiceException;
import java.io.IOException;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** The conversation so far (clients/scenario.md, "The language"). */
final class Scenario implements AutoCloseable {
    /** The step cannot be played here. */
    static final class Skipped extends RuntimeException {
        private static final long serialVersionUID = 1;

        Skipped(String message) {
            super(message);
        }
    }

    private static final long ACTION_S = 30;
    private static final Set<String> CALL_KEYS =
            Set.of("call", "as", "with", "until", "meanwhile", "give_up", "expect", "error", "save");

    private final Map<String, Caller> callers = new HashMap<>();
    private final Map<String, String> variables = new HashMap<>();
    private final ExecutorService threads = Executors.newCachedThreadPool(work -> {
        var thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    });

    Scenario() {
        variables.put("run", UUID.randomUUID().toString().substring(0, 8));
    }

    @Override
    public void close() {
        callers.values().forEach(Caller::close);
        threads.shutdownNow();
    }

    /** Take the actions of a step. */
    void play(Map<String, Object> step) throws Exception {
        onlyKeys(step, Set.of("step", "tries", "do"));
        if (System.getenv("SCENARIO_RESTART") == null && restarts(actions(step.get("do")))) {
            throw new Skipped("SCENARIO_RESTART is not set");
        }
        for (int left = (int) step.getOrDefault("tries", 1); ; left--) {
            try {
                takeAll(actions(step.get("do")));
                return;
            } catch (Mismatch mismatch) {
                if (left <= 1) {
                    throw mismatch;
                }
            }
        }
    }

    private void takeAll(List<Map<String, Object>> actions) throws Exception {
        for (var action : actions) {
            String name = String.valueOf(action.getOrDefault("call", action.keySet().iterator().next()));
            try {
                inTime(() -> take(action));
            } catch (Mismatch mismatch) {
                throw new Mismatch(name + ": " + mismatch.getMessage());
            } catch (TimeoutException late) {
                throw new Mismatch(name + ": took more than " + ACTION_S + " s");
            }
        }
    }

    private Void take(Map<String, Object> action) throws Exception {
        if (action.keySet().equals(Set.of("wait_s"))) {
            double seconds = Double.parseDouble(String.valueOf(filled(action.get("wait_s"))));
            Thread.sleep((long) Math.ceil(seconds * 1000));
        } else if (action.equals(Map.of("restart", true))) {
            restart();
        } else {
            onlyKeys(action, CALL_KEYS);
            call(action);
        }
        return null;
    }

    private void call(Map<String, Object> action) throws Exception {
        @SuppressWarnings("unchecked")
        var with = (Map<String, Object>) filled(action.getOrDefault("with", Map.of()));
        var call = new FutureTask<>(
                () -> caller(action).result((String) action.get("call"), with, (String) action.get("until")));
        var thread = new Thread(call);
        thread.start();
        Map<String, Object> told;
        try {
            takeAll(actions(action.getOrDefault("meanwhile", List.of())));
            if (Boolean.TRUE.equals(action.get("give_up"))) {
                thread.interrupt();
            }
            told = outcome(call, action);
        } finally {
            thread.interrupt();
        }
        @SuppressWarnings("unchecked")
        var save = (Map<String, String>) action.getOrDefault("save", Map.of());
        save.forEach((name, place) -> variables.put(name, Matching.found(place, told)));
    }

    /** A client that cannot be made is an error of its first call. */
    private Caller caller(Map<String, Object> action) {
        synchronized (callers) {
            return callers.computeIfAbsent((String) action.getOrDefault("as", "alice"), Caller::new);
        }
    }

    /** The result or the error, which is as expected. */
    private Map<String, Object> outcome(FutureTask<Map<String, Object>> call, Map<String, Object> action)
            throws Exception {
        try {
            Map<String, Object> result = call.get();
            if (action.containsKey("error")) {
                throw new Mismatch("expected an error, got " + result);
            }
            if (action.containsKey("expect")) {
                Matching.match(filled(action.get("expect")), result, "expect");
            }
            return result;
        } catch (ExecutionException failed) {
            if (!(failed.getCause() instanceof AgentServiceException error)) {
                throw failed.getCause() instanceof Exception other ? other : failed;
            }
            if (!action.containsKey("error")) {
                throw new Mismatch("expected no error, got " + error.getMessage());
            }
            var told = Caller.error(error);
            Matching.match(filled(action.get("error")), told, "error");
            return told;
        }
    }

    private void inTime(Callable<Void> work) throws Exception {
        var done = threads.submit(work);
        try {
            done.get(ACTION_S, TimeUnit.SECONDS);
        } catch (ExecutionException failed) {
            throw failed.getCause() instanceof Exception cause ? cause : failed;
        } finally {
            done.cancel(true);
        }
    }

    private static void restart() throws IOException, InterruptedException {
        var process = new ProcessBuilder("sh", "-c", System.getenv("SCENARIO_RESTART"))
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.to(new java.io.File("/dev/stderr")))
                .start();
        if (process.waitFor() != 0) {
            throw new Mismatch("the server was not restarted");
        }
    }

    private Object filled(Object value) {
        return Matching.filled(value, variables);
    }

    private static boolean restarts(List<Map<String, Object>> actions) {
        return actions.stream()
                .anyMatch(action -> action.containsKey("restart")
                        || restarts(actions(action.getOrDefault("meanwhile", List.of()))));
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> actions(Object value) {
        return (List<Map<String, Object>>) value;
    }

    private static void onlyKeys(Map<String, Object> given, Set<String> known) {
        var unknown = new HashSet<>(given.keySet());
        unknown.removeAll(known);
        if (!unknown.isEmpty()) {
            throw new Mismatch("unknown keys: " + unknown);
        }
    }
}
