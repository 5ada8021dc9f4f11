package dev.agentservice.client;

import com.google.protobuf.DescriptorProtos.MethodOptions.IdempotencyLevel;
import dev.agentservice.v1.AgentServiceOuterClass;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** How the connections are set up. */
final class Channels {
    private static final String SERVICE = "agent_service.v1.AgentService";
    private static final int MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

    // A server that does not answer a ping in time is gone, however its machine went.
    private static final long PING_EVERY_S = 30;
    private static final long PING_TIMEOUT_S = 10;

    private Channels() {}

    /** For calls that wait for tasks. It leaves out servers that say that they are not ready. */
    static ManagedChannel work(String target, ChannelCredentials credentials) {
        return open(target, credentials, Map.of("healthCheckConfig", Map.of("serviceName", SERVICE)));
    }

    /** For all others: also a server that shuts down cancels, shows and resumes its tasks. */
    static ManagedChannel control(String target, ChannelCredentials credentials) {
        return open(target, credentials, Map.of());
    }

    private static ManagedChannel open(String target, ChannelCredentials credentials, Map<String, ?> health) {
        var config = new HashMap<String, Object>(health);
        config.put("loadBalancingConfig", List.of(Map.of("round_robin", Map.of())));
        config.put("retryThrottling", Map.of("maxTokens", 10.0, "tokenRatio", 0.1));
        config.put("methodConfig", List.of(Map.of("name", repeatable(), "retryPolicy", retries())));
        return Grpc.newChannelBuilder(target, credentials)
                .defaultServiceConfig(config)
                .maxInboundMessageSize(MESSAGE_BYTES_MAX)
                .keepAliveTime(PING_EVERY_S, TimeUnit.SECONDS)
                .keepAliveTimeout(PING_TIMEOUT_S, TimeUnit.SECONDS)
                .build();
    }

    /** The methods that have the same effect when they are called again, by the contract's idempotency_level. */
    private static List<Map<String, String>> repeatable() {
        var methods = AgentServiceOuterClass.getDescriptor().findServiceByName("AgentService").getMethods();
        var ours = methods.stream()
                .filter(method -> method.getOptions().getIdempotencyLevel() != IdempotencyLevel.IDEMPOTENCY_UNKNOWN)
                .map(method -> Map.of("service", SERVICE, "method", method.getName()));
        return Stream.concat(ours, Stream.of(Map.of("service", "grpc.health.v1.Health", "method", "Check")))
                .toList();
    }

    private static Map<String, ?> retries() {
        return Map.of(
                "maxAttempts", 4.0,
                "initialBackoff", "0.1s",
                "maxBackoff", "1s",
                "backoffMultiplier", 2.0,
                "retryableStatusCodes", List.of("UNAVAILABLE"));
    }
}
