package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const chunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796066631,"model":"m",` +
	`"service_tier":"default","system_fingerprint":"fp_1a2b3c4d5e","choices":[{"index":0,"delta":{%s},` +
	`"logprobs":null,"finish_reason":%s}],"usage":%s,"obfuscation":"x7Kq2m"}` + "\n\n"

// serveModel answers Chat Completions with a stream, and throws traces away. The last user message says what the stream
// is: "COUNT MICROSECONDS" are so many deltas, so far apart, each with the time at which it was sent.
func serveModel() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	chat := func(response http.ResponseWriter, request *http.Request) {
		count, pause, err := asked(request.Body)
		if err != nil {
			http.Error(response, err.Error(), http.StatusBadRequest)
			return
		}
		flusher := response.(http.Flusher)
		response.Header().Set("content-type", "text/event-stream")
		next := time.Now()
		for range count {
			text := `"content":"@` + strconv.FormatInt(time.Now().UnixNano(), 10) + ` "`
			fmt.Fprintf(response, chunk, text, "null", "null")
			flusher.Flush()
			next = next.Add(pause)
			time.Sleep(time.Until(next))
		}
		usage := fmt.Sprintf(`{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}`, count, count+9)
		fmt.Fprintf(response, chunk, "", `"stop"`, usage)
		io.WriteString(response, "data: [DONE]\n\n")
	}
	http.HandleFunc("/v1/chat/completions", chat)
	http.HandleFunc("/v1/traces", func(_ http.ResponseWriter, request *http.Request) { io.Copy(io.Discard, request.Body) })
	return http.Serve(listener, nil)
}

func asked(body io.Reader) (int, time.Duration, error) {
	var request struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if err := json.NewDecoder(body).Decode(&request); err != nil {
		return 0, 0, err
	}
	for index := len(request.Messages) - 1; index >= 0; index-- {
		if message := request.Messages[index]; message.Role == "user" {
			var count, micros int
			_, err := fmt.Sscanf(strings.Trim(string(message.Content), `"`), "%d %d", &count, &micros)
			return count, time.Duration(micros) * time.Microsecond, err
		}
	}
	return 0, 0, fmt.Errorf("no user message")
}
