package dev.agentservice.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.agentservice.v1.AgentServiceGrpc;
import io.grpc.CallOptions;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class ChannelsTest {
    @Test
    void thoseCallsAreRepeatedThatTheContractNames() throws Exception {
        var repeated = new ArrayList<String>();
        for (MethodDescriptor<?, ?> method : AgentServiceGrpc.getServiceDescriptor().getMethods()) {
            if (attempts(method) == 2) {
                repeated.add(method.getBareMethodName());
            }
        }
        List<String> named = Files.readAllLines(Path.of("../repeatable.txt"));
        assertEquals(named, repeated.stream().sorted().toList());
    }

    /** How often a call is made that a server refuses once because it is away. */
    private static <Q, R> int attempts(MethodDescriptor<Q, R> method) throws IOException, InterruptedException {
        var made = new AtomicInteger();
        Server server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
                .addService(ServerServiceDefinition.builder("agent_service.v1.AgentService")
                        .addMethod(method, (call, headers) -> {
                            var status = made.incrementAndGet() == 1 ? Status.UNAVAILABLE : Status.INVALID_ARGUMENT;
                            call.close(status, new Metadata());
                            return new ServerCall.Listener<Q>() {};
                        })
                        .build())
                .build()
                .start();
        var channel = Channels.control("localhost:" + server.getPort(), InsecureChannelCredentials.create());
        try {
            Q nothing = method.parseRequest(new ByteArrayInputStream(new byte[0]));
            assertThrows(
                    StatusRuntimeException.class,
                    () -> ClientCalls.blockingServerStreamingCall(channel, method, CallOptions.DEFAULT, nothing)
                            .next());
        } finally {
            channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
            server.shutdownNow();
        }
        return made.get();
    }
}
