// Command load calls a server in a closed loop and checks every answer. It reads one JSON specification from the first
// line of its standard input, connects, prints {"ready": true}, waits for a second line, makes the calls, and prints one
// JSON result. With -model it is a model server with OpenAI's streaming API instead.
//
// It speaks HTTP/2 through golang.org/x/net's framer, one goroutine a connection: a client of a gRPC library costs three
// times as much CPU a call, and the two cores of a small machine share caches and execution units, so that a busy client
// slows the server that is measured.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

// Spec is what to call, and what an answer must be like.
type Spec struct {
	Targets     []string          `json:"targets"`
	Protocol    string            `json:"protocol"` // grpc, or http1
	Path        string            `json:"path"`
	Headers     map[string]string `json:"headers"`
	Body        []byte            `json:"body"`
	Connections int               `json:"connections"`
	InFlight    int               `json:"in_flight"`
	Calls       int64             `json:"calls"`
	Expect      [][]byte          `json:"expect"`       // parts that the last message must have
	MessagesMin int               `json:"messages_min"` // of an answer
	Hold        bool              `json:"hold"`         // keep streams open once each has had a message, until the input ends
	Stamped     bool              `json:"stamped"`      // messages carry the time at which the model sent their text
	DialAfterGo bool              `json:"dial_after_go"`
	TimeoutS    float64           `json:"timeout_s"`
}

// Result is what was measured.
type Result struct {
	Calls      int64     `json:"calls"`
	Seconds    float64   `json:"seconds"`
	Messages   int64     `json:"messages"`
	Wrong      int64     `json:"wrong"`
	FirstWrong string    `json:"first_wrong,omitempty"`
	LatencyMs  Quantiles `json:"latency_ms"`
	FirstMs    Quantiles `json:"first_ms"` // until the first message
	StampMs    Quantiles `json:"stamp_ms"` // from the model's write to the message
	CPUSeconds float64   `json:"cpu_s"`    // of this process
}

// Work is shared by all connections.
type Work struct {
	spec  *Spec
	begun atomic.Int64
	open  atomic.Int64
}

// next says whether one more call is to be made.
func (w *Work) next() bool { return w.begun.Add(1) <= w.spec.Calls }

// Caller makes calls on one connection until there are none left.
type Caller interface {
	Run(inFlight int) error
	Tally() *Tally
}

func main() {
	model := flag.Bool("model", false, "serve OpenAI's streaming API on a free port, and print it")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	if *model {
		fail(serveModel())
	}
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	fail(err)
	spec := &Spec{Protocol: "grpc", Connections: 1, InFlight: 1, TimeoutS: 60}
	fail(json.Unmarshal(line, spec))
	work := &Work{spec: spec}
	var callers []Caller
	if !spec.DialAfterGo {
		callers = dialAll(work)
	}
	fmt.Println(`{"ready": true}`)
	if _, err := input.ReadBytes('\n'); err != nil {
		fail(err)
	}
	before, began := ownCPU(), time.Now()
	time.AfterFunc(time.Duration(spec.TimeoutS*float64(time.Second)), func() { fail(fmt.Errorf("no end in %g s", spec.TimeoutS)) })
	if spec.DialAfterGo {
		callers = dialAll(work)
	}
	if spec.Hold {
		hold(work, callers, input)
		return
	}
	result := sum(runAll(spec, callers), time.Since(began))
	result.CPUSeconds = ownCPU() - before
	print(result)
}

func runAll(spec *Spec, callers []Caller) []*Tally {
	done := make(chan error, len(callers))
	for index, caller := range callers {
		share := spec.InFlight / len(callers)
		if index < spec.InFlight%len(callers) {
			share++
		}
		go func() { done <- caller.Run(share) }()
	}
	tallies := make([]*Tally, len(callers))
	for index, caller := range callers {
		fail(<-done)
		tallies[index] = caller.Tally()
	}
	return tallies
}

// hold opens all streams, says so once each has had a message, and stays until the input ends.
func hold(work *Work, callers []Caller, input *bufio.Reader) {
	go runAll(work.spec, callers)
	for work.open.Load() < work.spec.Calls {
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Printf("{\"open\": %d}\n", work.open.Load())
	_, _ = input.ReadBytes('\n')
}

func dialAll(work *Work) []Caller {
	var callers []Caller
	for index := range work.spec.Connections {
		target := work.spec.Targets[index%len(work.spec.Targets)]
		caller, err := dial(work, target)
		for work.spec.DialAfterGo && err != nil {
			time.Sleep(time.Millisecond)
			caller, err = dial(work, target)
		}
		fail(err)
		callers = append(callers, caller)
	}
	return callers
}

func dial(work *Work, target string) (Caller, error) {
	if work.spec.Protocol == "http1" {
		return dialHTTP1(work, target)
	}
	return dialGRPC(work, target)
}

func ownCPU() float64 {
	var used syscall.Rusage
	fail(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func print(value any) {
	text, err := json.Marshal(value)
	fail(err)
	fmt.Println(string(text))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
