package dev.agentservice.check;

import dev.agentservice.check.Matching.Mismatch;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import javax.tools.ToolProvider;
import org.yaml.snakeyaml.Yaml;

/** Plays the scenario (clients/scenario.md) through the Java client, or runs the examples; prints TAP. */
public final class Check {
    private static final Path HERE = Path.of(System.getProperty("check.home", "."));

    private interface Test {
        void run() throws Exception;
    }

    private Check() {}

    /** {@code examples}, or nothing. */
    public static void main(String... arguments) throws IOException {
        boolean allHold = arguments.length > 0 && arguments[0].equals("examples") ? runExamples() : play();
        System.exit(allHold ? 0 : 1);
    }

    private static boolean play() throws IOException {
        List<Map<String, Object>> steps = new Yaml().load(Files.readString(HERE.resolve("../scenario.yaml")));
        try (var scenario = new Scenario()) {
            var tests = new LinkedHashMap<String, Test>();
            steps.forEach(step -> tests.put((String) step.get("step"), () -> scenario.play(step)));
            return report(tests);
        }
    }

    private static boolean runExamples() throws IOException {
        var tests = new LinkedHashMap<String, Test>();
        Path classes = Files.createTempDirectory("examples");
        try (var files = Files.list(HERE.resolve("examples"))) {
            List<Path> sources = files.sorted().toList();
            compile(sources, classes);
            var loader = new URLClassLoader(new URL[] {classes.toUri().toURL()});
            for (Path source : sources) {
                String name = source.getFileName().toString().replace(".java", "");
                tests.put(name.toLowerCase(Locale.ROOT), () -> run(loader.loadClass(name)));
            }
        }
        return report(tests);
    }

    /** All at once, and run where we are: each in a Java of its own would take many times as long. */
    private static void compile(List<Path> sources, Path classes) {
        var told = new ByteArrayOutputStream();
        var arguments = new ArrayList<>(
                List.of("-d", classes.toString(), "-cp", System.getProperty("java.class.path")));
        sources.forEach(source -> arguments.add(source.toString()));
        int code = ToolProvider.getSystemJavaCompiler().run(null, told, told, arguments.toArray(String[]::new));
        if (code != 0) {
            throw new IllegalStateException(told.toString(StandardCharsets.UTF_8));
        }
    }

    private static void run(Class<?> example) throws Exception {
        PrintStream out = System.out;
        System.setOut(System.err);
        try {
            example.getMethod("main", String[].class).invoke(null, (Object) new String[0]);
        } catch (InvocationTargetException failed) {
            throw new Mismatch(failed.getCause().toString());
        } finally {
            System.setOut(out);
        }
    }

    /** Run them in order and print TAP; whether all of them hold. */
    private static boolean report(Map<String, Test> tests) {
        String ci = System.getenv().getOrDefault("CI", "").toLowerCase(Locale.ROOT);
        boolean inCi = !List.of("", "0", "false").contains(ci);
        System.out.printf("TAP version 13%n1..%d%n", tests.size());
        boolean allHold = true;
        int number = 0;
        for (var test : tests.entrySet()) {
            number++;
            String problem = "";
            String skipped = "";
            try {
                test.getValue().run();
            } catch (Scenario.Skipped cannot) {
                problem = inCi ? cannot.getMessage() : "";
                skipped = inCi ? "" : " # SKIP " + cannot.getMessage();
            } catch (Mismatch mismatch) {
                problem = mismatch.getMessage();
            } catch (Exception error) {
                problem = error.toString();
            }
            boolean holds = problem.isEmpty();
            allHold &= holds;
            System.out.printf("%s %d - %s%s%n", holds ? "ok" : "not ok", number, test.getKey(), skipped);
            if (!holds) {
                System.out.printf("  ---%n  message: %s%n  ...%n", quoted(problem));
            }
        }
        return allHold;
    }

    private static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + "\"";
    }
}
