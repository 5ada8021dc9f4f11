package dev.agentservice.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.agentservice.v1.RunTaskResponse;
import dev.agentservice.v1.Task;
import io.grpc.ServerCredentials;
import io.grpc.Status.Code;
import io.grpc.TlsServerCredentials;
import io.grpc.TlsServerCredentials.ClientAuth;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.Base64;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(30)
class TlsTest {
    private static final char[] PASSWORD = "for this test alone".toCharArray();
    private static final RunTaskResponse DONE =
            RunTaskResponse.newBuilder().setTask(Task.newBuilder().setOutput("done")).build();

    @TempDir
    static Path directory;

    private static Path serverCertificate;
    private static Path clientCertificate;

    @BeforeAll
    static void makeCertificates() throws Exception {
        serverCertificate = certificate("server");
        clientCertificate = certificate("client");
    }

    @Test
    void aServerIsTrustedByItsCertificate() throws Exception {
        try (var service = new FakeService(serverCredentials(ClientAuth.NONE)).answer(DONE);
                var client = AgentServiceClient.builder(service.target()).tls(serverCertificate).build()) {
            assertEquals("done", client.run("say it").getOutput());
        }
    }

    @Test
    void anotherServerIsRefusedAtOnce() throws Exception {
        try (var service = new FakeService(serverCredentials(ClientAuth.NONE)).answer(DONE);
                var client = AgentServiceClient.builder(service.target()).tls(clientCertificate).build()) {
            var refused = assertThrows(AgentServiceException.class, () -> client.run("say it"));
            assertEquals(Code.UNAVAILABLE, refused.code());
        }
    }

    @Test
    void aServerThatAsksForACertificateIsShownOurs() throws Exception {
        try (var service = new FakeService(serverCredentials(ClientAuth.REQUIRE)).answer(DONE);
                var client = AgentServiceClient.builder(service.target())
                        .mutualTls(serverCertificate, clientCertificate, key("client").toPath())
                        .build()) {
            assertEquals("done", client.run("say it").getOutput());
        }
    }

    private static ServerCredentials serverCredentials(ClientAuth clientAuth) throws Exception {
        return TlsServerCredentials.newBuilder()
                .keyManager(serverCertificate.toFile(), key("server"))
                .trustManager(clientCertificate.toFile())
                .clientAuth(clientAuth)
                .build();
    }

    private static File key(String name) {
        return directory.resolve(name + ".key").toFile();
    }

    /** A certificate that signs itself, with its key, as PEM files. */
    private static Path certificate(String name) throws Exception {
        Path store = directory.resolve(name + ".p12");
        String keytool = Path.of(System.getProperty("java.home"), "bin", "keytool").toString();
        var process = new ProcessBuilder(
                        keytool, "-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", "CN=" + name,
                        "-ext", "SAN=dns:localhost", "-keystore", store.toString(), "-storetype", "PKCS12",
                        "-storepass", new String(PASSWORD))
                .inheritIO()
                .start();
        assertEquals(0, process.waitFor());
        var keys = KeyStore.getInstance(store.toFile(), PASSWORD);
        Files.writeString(key(name).toPath(), pem("PRIVATE KEY", keys.getKey(name, PASSWORD).getEncoded()));
        return Files.writeString(
                directory.resolve(name + ".crt"), pem("CERTIFICATE", keys.getCertificate(name).getEncoded()));
    }

    private static String pem(String kind, byte[] bytes) {
        String text = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(bytes);
        return "-----BEGIN " + kind + "-----\n" + text + "\n-----END " + kind + "-----\n";
    }
}
