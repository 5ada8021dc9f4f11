package dev.agentservice.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** What the README shows is part of an example, which `check examples` runs. */
class ReadmeTest {
    private static final Pattern JAVA = Pattern.compile("^```java\\n(.*?)^```$", Pattern.MULTILINE | Pattern.DOTALL);
    private static final Pattern LINK = Pattern.compile("\\(examples/(\\w+\\.java)\\)");

    private final String readme = read(Path.of("README.md"));
    private final List<Path> examples = files();

    @Test
    void everyPieceOfCodeIsPartOfAnExample() {
        String shown = examples.stream().map(ReadmeTest::read).collect(Collectors.joining("\n"));
        List<String> pieces = JAVA.matcher(readme).results().map(found -> found.group(1)).toList();
        assertFalse(pieces.isEmpty());
        for (String piece : pieces) {
            assertTrue(unindented(shown).contains(unindented(piece)), piece);
        }
    }

    @Test
    void everyExampleIsNamed() {
        var named = LINK.matcher(readme).results().map((MatchResult found) -> found.group(1));
        assertEquals(
                examples.stream().map(file -> file.getFileName().toString()).toList(),
                named.sorted().toList());
    }

    @Test
    void theVersionIsThatOfTheBuild() {
        String version = "  <version>0.1.0</version>";
        assertTrue(readme.contains(version));
        assertTrue(read(Path.of("pom.xml")).contains("<artifactId>agent-service-client</artifactId>\n" + version));
    }

    private static String unindented(String code) {
        return code.replaceAll("(?m)^ +", "");
    }

    private static List<Path> files() {
        try (var files = Files.list(Path.of("examples"))) {
            return files.sorted().toList();
        } catch (IOException unreadable) {
            throw new AssertionError(unreadable);
        }
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException unreadable) {
            throw new AssertionError(unreadable);
        }
    }
}
