package agentservice_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	agentservice "agent-service.dev/clients/go"
	pb "agent-service.dev/clients/go/agentservicev1"
)

func TestAnErrorCarriesWhatTheServiceSaid(t *testing.T) {
	t.Parallel()
	f := &fake{run: runs{answers(nil, refusal(codes.InvalidArgument, "FIELD_INVALID",
		protoadapt.MessageV1Of(&errdetails.RequestInfo{RequestId: "r-1"}),
		protoadapt.MessageV1Of(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "task", Description: "is empty"}, {Field: "timeout", Description: "is too short"},
		}}),
	))}}

	_, err := started(t, f).Run(within(t), agentservice.Request{})
	var refused *agentservice.Error
	if !errors.As(fmt.Errorf("wrapped: %w", err), &refused) {
		t.Fatalf("got %v", err)
	}
	if refused.Code != codes.InvalidArgument || refused.Reason != "FIELD_INVALID" || refused.RequestID != "r-1" || refused.Metadata["about"] != "x" {
		t.Errorf("got %+v", refused)
	}
	if !reflect.DeepEqual(refused.Violations, []agentservice.Violation{{Field: "task", Description: "is empty"}, {Field: "timeout", Description: "is too short"}}) {
		t.Errorf("got %v", refused.Violations)
	}
	if err.Error() != "InvalidArgument FIELD_INVALID: refused (request r-1)" || status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		t.Error("is no end of a context")
	}
}

func TestTheKeyIsSentAndNeverShown(t *testing.T) {
	t.Parallel()
	const key = "secret-key-of-a-test"
	f := &fake{}
	option := agentservice.WithAPIKey(key)
	client := started(t, f, option)
	if _, err := client.ListAgents(within(t)); err != nil || len(f.keys) != 1 || f.keys[0] != key {
		t.Fatalf("sent %v, %v", f.keys, err)
	}
	_, failed := client.Run(within(t), agentservice.Request{OutputSchema: map[string]any{"x": func() {}}})
	_, malformed := agentservice.New("localhost:9000", agentservice.WithAPIKey(key+"\n"+key))
	for _, shown := range []any{client, &client, option, failed, malformed} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if text := fmt.Sprintf(verb, shown); strings.Contains(text, key) || strings.Contains(text, fmt.Sprintf("%x", key)) {
				t.Errorf("%s shows the key: %s", verb, text)
			}
		}
	}
	if malformed == nil || failed == nil {
		t.Error("a key that no header can carry, or a schema that is none, was taken")
	}
}

func TestAKeyIsSentWithoutTheWhiteSpaceAroundItAndOneThatNoHeaderCanCarryNotAtAll(t *testing.T) {
	t.Parallel()
	for _, padded := range []string{"key\n", "\r\n key\t"} {
		f := &fake{}
		if _, err := started(t, f, agentservice.WithAPIKey(padded)).ListAgents(within(t)); err != nil || len(f.keys) != 1 || f.keys[0] != "key" {
			t.Errorf("%q: sent %q, %v", padded, f.keys, err)
		}
	}
	for _, mangled := range []string{"k\u00fc", "a b", "a\nb", "\ufeffkey", "a\x00", "\xff", "\U0001f600"} {
		_, err := agentservice.New("localhost:9000", agentservice.WithAPIKey(mangled))
		var refused *agentservice.Error
		if !errors.As(err, &refused) || refused.Reason != "API_KEY_INVALID" || status.Code(err) != codes.Unauthenticated {
			t.Errorf("%q: got %v", mangled, err)
		}
	}
}

func TestAServerThatIsNotThereIsToldWithWhatToLookAt(t *testing.T) {
	t.Parallel()
	client, err := agentservice.New("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Run(within(t), hello)
	if err == nil || !strings.Contains(err.Error(), "is a server running at 127.0.0.1:1? AGENT_SERVICE_TARGET names the address") {
		t.Errorf("got %v", err)
	}
}

func TestToolsAreCalledWithJSON(t *testing.T) {
	t.Parallel()
	var sent []string
	f := &fake{tool: tools{func(request *pb.ToolInvokeRequest) (*pb.ToolInvokeResponse, error) {
		sent = append(sent, request.GetInputsJson())
		return &pb.ToolInvokeResponse{}, nil
	}}}
	client := started(t, f)
	for _, inputs := range []any{nil, map[string]any{"n": 9007199254740993}, struct{ N int }{1}, json.RawMessage("[not JSON")} {
		if _, err := client.InvokeTool(within(t), agentservice.ToolCall{Name: "echo", Inputs: inputs}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{`{}`, `{"n":9007199254740993}`, `{"N":1}`, `[not JSON`}; !reflect.DeepEqual(sent, want) {
		t.Errorf("sent %q", sent)
	}
}

func TestARequestSaysWhatWasAskedAndNothingElse(t *testing.T) {
	t.Parallel()
	var came *pb.RunTaskRequest
	f := &fake{run: runs{func(_ context.Context, request *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
		came = request
		return &pb.RunTaskResponse{}, nil
	}}}
	client := started(t, f)
	if _, err := client.Run(within(t), hello); err != nil {
		t.Fatal(err)
	}
	if came.Timeout != nil || came.Budget != nil || came.OutputSchema != nil || came.GetOnDisconnect() != pb.OnDisconnect_ON_DISCONNECT_CANCEL {
		t.Errorf("sent %v", came)
	}
	asked := agentservice.Request{
		Task: "total 42", Agent: "a", SessionID: "s", RequestID: "r", Timeout: time.Minute, Labels: map[string]string{"k": "v"},
		Detached: true, TokensMax: 5, CostNanosMax: 7,
		OutputSchema: map[string]any{"type": "object", "required": []string{"total"}},
	}
	if _, err := client.Run(within(t), asked); err != nil {
		t.Fatal(err)
	}
	if came.GetTask() != "total 42" || came.GetAgent() != "a" || came.GetSessionId() != "s" || came.GetRequestId() != "r" ||
		came.GetTimeout().AsDuration() != time.Minute || came.GetLabels()["k"] != "v" ||
		came.GetOnDisconnect() != pb.OnDisconnect_ON_DISCONNECT_DETACH || came.GetBudget().GetTokens() != 5 ||
		came.GetBudget().GetCostNanos() != 7 || came.GetOutputSchema().GetFields()["required"].GetListValue().GetValues()[0].GetStringValue() != "total" {
		t.Errorf("sent %v", came)
	}
}

func TestAllTasksGoesFromPageToPage(t *testing.T) {
	t.Parallel()
	page := func(token, next string, ids ...string) func(*pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
		return func(request *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
			if request.GetPageToken() != token || request.GetAgent() != "a" {
				return nil, status.Errorf(codes.InvalidArgument, "asked for %v", request)
			}
			response := &pb.ListTasksResponse{NextPageToken: next}
			for _, id := range ids {
				response.Tasks = append(response.Tasks, &pb.Task{Id: id})
			}
			return response, nil
		}
	}
	client := started(t, &fake{list: lists{page("", "2", "c", "b"), page("2", "3"), page("3", "", "a")}})

	var seen []string
	wanted := &pb.ListTasksRequest{Agent: "a"}
	for task, err := range client.AllTasks(within(t), wanted) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, task.GetId())
	}
	if !reflect.DeepEqual(seen, []string{"c", "b", "a"}) || wanted.GetPageToken() != "" {
		t.Errorf("saw %v", seen)
	}
}

func TestBothSidesOfTLSAreChecked(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	authority, authorityKey := certificate(t, folder, "authority", nil, nil)
	certificate(t, folder, "server", authority, authorityKey)
	certificate(t, folder, "client", authority, authorityKey)
	file := func(name string) string { return filepath.Join(folder, name) }
	serverTLS, err := agentservice.TLSFiles(file("authority.pem"), file("server.pem"), file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	serverTLS.ClientCAs, serverTLS.ClientAuth = serverTLS.RootCAs, tls.RequireAndVerifyClientCert
	_, _, target := serve(t, "127.0.0.1:0", &fake{}, grpc.Creds(credentials.NewTLS(serverTLS)))

	for name, want := range map[string]codes.Code{"client": codes.OK, "": codes.Unavailable} {
		pair, key := "", ""
		if name != "" {
			pair, key = file(name+".pem"), file(name+".key")
		}
		config, err := agentservice.TLSFiles(file("authority.pem"), pair, key)
		if err != nil {
			t.Fatal(err)
		}
		client := connect(t, target, agentservice.WithTLS(config), agentservice.WithPatience(0))
		if _, err := client.ListAgents(within(t)); status.Code(err) != want {
			t.Errorf("certificate %q: got %v", name, err)
		}
	}
	if _, err := connect(t, target, agentservice.WithTLS(&tls.Config{}), agentservice.WithPatience(0)).ListAgents(within(t)); status.Code(err) != codes.Unavailable {
		t.Errorf("a certificate that nobody trusts: got %v", err)
	}
	if _, err := agentservice.TLSFiles(file("client.key"), "", ""); err == nil {
		t.Error("a file without a certificate was taken")
	}
}

func TestTheEnvironmentSaysWhereAndWho(t *testing.T) {
	folder := t.TempDir()
	authority, authorityKey := certificate(t, folder, "authority", nil, nil)
	certificate(t, folder, "server", authority, authorityKey)
	file := func(name string) string { return filepath.Join(folder, name) }
	serverTLS, err := agentservice.TLSFiles(file("authority.pem"), file("server.pem"), file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	serverTLS.ClientCAs, serverTLS.ClientAuth = serverTLS.RootCAs, tls.RequireAndVerifyClientCert
	f := &fake{}
	_, _, target := serve(t, "127.0.0.1:0", f, grpc.Creds(credentials.NewTLS(serverTLS)))
	t.Setenv("AGENT_SERVICE_TARGET", target)
	t.Setenv("API_KEY", "key-of-a-test")
	t.Setenv("AGENT_SERVICE_CA_FILE", file("authority.pem"))
	t.Setenv("AGENT_SERVICE_CERT_FILE", file("server.pem"))
	t.Setenv("AGENT_SERVICE_KEY_FILE", file("server.key"))
	t.Setenv("AGENT_SERVICE_SERVER_NAME", "127.0.0.1")

	client, err := agentservice.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.ListAgents(within(t)); err != nil || len(f.keys) != 1 || f.keys[0] != "key-of-a-test" {
		t.Errorf("sent %v, %v", f.keys, err)
	}
	t.Setenv("AGENT_SERVICE_TLS", "perhaps")
	if _, err := agentservice.FromEnvironment(); err == nil {
		t.Error("a setting that is neither true nor false was taken")
	}
}

// certificate writes a certificate and its key, signed by an authority or by itself.
func certificate(t *testing.T, folder, name string, authority *x509.Certificate, authorityKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  authority == nil,
	}
	if authority == nil {
		authority, authorityKey = made, key
	}
	der, err := x509.CreateCertificate(rand.Reader, made, authority, key.Public(), authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for ending, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(folder, name+ending), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, key
}
