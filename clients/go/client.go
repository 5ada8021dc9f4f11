// Package agentservice is the client of agent-service, which runs LLM agents as durable tasks.
//
//	client, err := agentservice.New("localhost:9000", agentservice.WithAPIKey(key))
//	task, err := client.Run(ctx, agentservice.Request{Task: "What is 17.5% of 2340?"})
//
// What calls take and return beside [Request] and [ToolCall] are the messages of the contract, package agentservicev1.
//
// A call that is interrupted because its server shuts down, or is away after it has been there, is taken up again under
// the same request id, for as long as its context and the client's patience last: nothing runs twice, and no event is
// seen twice. A refusal of new work, such as RATE_LIMITED_CALLS or OVERLOADED, is returned at once, with its RetryDelay.
package agentservice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets round_robin pass over servers that are not ready
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/descriptorpb"

	pb "agent-service.dev/clients/go/agentservicev1"
)

// Version is that of this module.
const Version = "0.1.0"

const (
	messageBytesMax = 16 << 20
	// How long a call is tried again while the server cannot be reached or restarts.
	patienceDefault = time.Minute
	// A server that does not answer a ping in time is gone, however its machine went.
	pingEvery   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

// serviceConfig is what gRPC does by itself: servers take turns, and a call that has the same effect when it is made again
// is made again, as long as most succeed. It keeps to the server's pushback.
func serviceConfig(readyOnly bool) string {
	config := map[string]any{
		"loadBalancingConfig": []any{map[string]any{"round_robin": map[string]any{}}},
		"retryThrottling":     map[string]any{"maxTokens": 10, "tokenRatio": 0.1},
		"methodConfig": []any{map[string]any{
			"name": repeatable(),
			"retryPolicy": map[string]any{
				"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
				"retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}},
	}
	if readyOnly {
		config["healthCheckConfig"] = map[string]any{"serviceName": pb.AgentService_ServiceDesc.ServiceName}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // a map of texts and numbers
	}
	return string(text)
}

// repeatable names the methods that have the same effect when they are called again, by the contract's idempotency_level.
func repeatable() []map[string]string {
	var names []map[string]string
	service := pb.File_agent_service_v1_agent_service_proto.Services().ByName("AgentService")
	for index := range service.Methods().Len() {
		method := service.Methods().Get(index)
		options, _ := method.Options().(*descriptorpb.MethodOptions)
		if options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
			names = append(names, map[string]string{"service": string(service.FullName()), "method": string(method.Name())})
		}
	}
	return names
}

// Client talks to one service. It may be used by any number of goroutines.
//
// It has two connections to each address, made when they are needed: one for calls that wait for tasks, of which a
// server admits 250 at once (more wait for their turn), and one for the rest, so that a cancel never waits behind them.
// All errors of calls are *[Error], but those of arguments that no message can carry.
type Client struct {
	target       string
	work, side   *grpc.ClientConn
	tasks, quick pb.AgentServiceClient
	health       healthpb.HealthClient
	patience     time.Duration
	wasThere     atomic.Bool
	isClosed     atomic.Bool
}

type settings struct {
	key      string
	tls      *tls.Config
	patience time.Duration
	dial     []grpc.DialOption
}

// Option is a setting of a client.
type Option func(*settings)

// WithAPIKey sets the key that calls carry. White space around it is dropped; one that no header can carry is refused by
// [New], with an *[Error] of the reason API_KEY_INVALID.
func WithAPIKey(key string) Option {
	return func(s *settings) { s.key = key }
}

// WithTLS connects with TLS; with certificates of its own in the configuration, mutually. See [TLSFiles].
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.tls = config }
}

// WithPatience sets how long a call is tried again while the server is away: a minute by default, 0 not at all.
func WithPatience(patience time.Duration) Option {
	return func(s *settings) { s.patience = patience }
}

// WithDialOptions adds to the options of both connections, or overrides them: interceptors, tracing, a proxy.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// New makes a client of the service at a target. It does not connect yet: a server that is not there is told by the first
// call. Close it in the end.
//
// `dns:///agents:9000`, or any other target of gRPC's with a scheme, stands for all servers of that name: one that says
// it is not ready is passed over. A plain `host:port` is asked in any case, for its refusal tells the reason.
func New(target string, options ...Option) (*Client, error) {
	chosen := settings{patience: patienceDefault}
	for _, option := range options {
		option(&chosen)
	}
	// What files and secret stores leave around a key. Any other character may be part of a mistake.
	chosen.key = strings.Trim(chosen.key, " \t\r\n\v\f")
	if strings.ContainsFunc(chosen.key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, refusedKey()
	}
	work, err := grpc.NewClient(target, chosen.dialOptions(serviceConfig(strings.Contains(target, "://")))...)
	if err != nil {
		return nil, fmt.Errorf("agentservice: %w", err)
	}
	// A server that is not ready takes no new tasks, but still tells of those that it has, and cancels them.
	side, err := grpc.NewClient(target, chosen.dialOptions(serviceConfig(false))...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agentservice: %w", err), work.Close())
	}
	return &Client{
		target:   target,
		work:     work,
		side:     side,
		tasks:    pb.NewAgentServiceClient(work),
		quick:    pb.NewAgentServiceClient(side),
		health:   healthpb.NewHealthClient(side),
		patience: chosen.patience,
	}, nil
}

// FromEnvironment makes a client as the variables of the service's own commands say: AGENT_SERVICE_TARGET (localhost:9000
// by default) and API_KEY; with TLS where AGENT_SERVICE_TLS is true, or one of AGENT_SERVICE_CA_FILE, _CERT_FILE, _KEY_FILE
// and _SERVER_NAME is set. Options override them.
func FromEnvironment(options ...Option) (*Client, error) {
	target := strings.TrimSpace(os.Getenv("AGENT_SERVICE_TARGET"))
	if target == "" {
		target = "localhost:9000"
	}
	from := []Option{WithAPIKey(os.Getenv("API_KEY"))}
	wanted, given := false, os.Getenv("AGENT_SERVICE_TLS")
	if given != "" {
		var err error
		if wanted, err = strconv.ParseBool(given); err != nil {
			return nil, fmt.Errorf("agentservice: AGENT_SERVICE_TLS is neither true nor false: %q", given)
		}
	}
	trusted, certificate := os.Getenv("AGENT_SERVICE_CA_FILE"), os.Getenv("AGENT_SERVICE_CERT_FILE")
	key, name := os.Getenv("AGENT_SERVICE_KEY_FILE"), os.Getenv("AGENT_SERVICE_SERVER_NAME")
	if wanted || trusted != "" || certificate != "" || key != "" || name != "" {
		config, err := TLSFiles(trusted, certificate, key)
		if err != nil {
			return nil, err
		}
		config.ServerName = name
		from = append(from, WithTLS(config))
	}
	return New(target, append(from, options...)...)
}

// TLSFiles reads a configuration for [WithTLS] out of PEM files: whom to trust, and a certificate and key of one's own.
// No trusted file is the system's; no certificate and key is TLS without them.
func TLSFiles(trusted, certificate, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if trusted != "" {
		text, err := os.ReadFile(trusted)
		if err != nil {
			return nil, fmt.Errorf("agentservice: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("agentservice: no certificate in %s", trusted)
		}
	}
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("agentservice: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// Close closes the connections; calls under way are canceled.
func (c *Client) Close() error {
	c.isClosed.Store(true)
	return errors.Join(c.work.Close(), c.side.Close())
}

// String tells whose client it is.
func (c *Client) String() string {
	return "agentservice.Client(" + c.target + ")"
}

func (s *settings) dialOptions(serviceConfig string) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("agent-service-go/" + Version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// No TXT record of the name changes it: what stands here is what is tested.
		grpc.WithDisableServiceConfig(),
	}
	if s.key != "" {
		options = append(options, grpc.WithPerRPCCredentials(apiKey(s.key)))
	}
	return append(options, s.dial...)
}

// apiKey puts the key into a call's metadata.
type apiKey string

func (k apiKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"x-api-key": string(k)}, nil
}

// RequireTransportSecurity is false: inside a mesh or a machine the wire is safe by other means.
func (k apiKey) RequireTransportSecurity() bool { return false }
