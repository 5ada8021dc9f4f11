// Command load calls a server in a closed loop and checks every answer. It reads one JSON specification from the first
// line of its standard input, connects, prints {"ready": true}, waits for a second line, makes the calls, and prints one
// JSON result. With -model it is a model server with OpenAI's streaming API instead.
//
// It speaks HTTP/2 through golang.org/x/net's framer, in one goroutine: the two cores of a small machine share caches and
// execution units, so that a busy client slows the server that is measured.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
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
	begun int64 // calls that were begun
	open  int64 // streams that have had their messages
}

// next says whether one more call is to be made.
func (w *Work) next() bool {
	if w.begun >= w.spec.Calls {
		return false
	}
	w.begun++
	return true
}

func main() {
	model := flag.Bool("model", false, "serve OpenAI's streaming API on a free port, and print it")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	// A run is short: rather than to collect garbage it keeps it.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryBytes)
	if *model {
		fail(serveModel())
	}
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	fail(err)
	spec := &Spec{Protocol: "grpc", Connections: 1, InFlight: 1, TimeoutS: 60}
	fail(json.Unmarshal(line, spec))
	if spec.Protocol == "http1" {
		fail(overHTTP1(spec, input))
	} else {
		fail(overGRPC(spec, input))
	}
}

const memoryBytes = 1 << 30

// ready says so, and waits for the word to begin.
func ready(input *bufio.Reader) error {
	fmt.Println(`{"ready": true}`)
	_, err := input.ReadBytes('\n')
	return err
}

func overGRPC(spec *Spec, input *bufio.Reader) error {
	work := &Work{spec: spec}
	loop, err := newLoop(time.Duration(spec.TimeoutS * float64(time.Second)))
	fail(err)
	var callers []*GRPC
	if !spec.DialAfterGo {
		callers = dialAll(work, loop)
	}
	fail(ready(input))
	before, began := ownCPU(), time.Now()
	if spec.DialAfterGo {
		callers = dialAll(work, loop)
	}
	for index, caller := range callers {
		fail(caller.begin(share(spec.InFlight, len(callers), index)))
	}
	if spec.Hold {
		return hold(work, loop)
	}
	fail(loop.until(func() bool {
		return work.begun >= spec.Calls && !slices.ContainsFunc(callers, func(caller *GRPC) bool { return !caller.isDone() })
	}))
	took, tallies := time.Since(began), make([]*Tally, len(callers))
	for index, caller := range callers {
		tallies[index] = &caller.tally
	}
	finish(tallies, took, before)
	return nil
}

// share is how many of the calls in flight are those of one of so many connections.
func share(inFlight, connections, index int) int {
	if index < inFlight%connections {
		return inFlight/connections + 1
	}
	return inFlight / connections
}

// hold opens all streams, says so once each has had its messages, and serves them until standard input ends.
func hold(work *Work, loop *Loop) error {
	fail(loop.until(func() bool { return work.open >= work.spec.Calls }))
	fmt.Printf("{\"open\": %d}\n", work.open)
	hasEnded := false
	standardInput := &Socket{loop: loop, fd: 0, receive: func([]byte) error { return nil }}
	loop.sockets[0] = standardInput
	fail(syscall.EpollCtl(loop.epoll, syscall.EPOLL_CTL_ADD, 0, &syscall.EpollEvent{Events: syscall.EPOLLIN}))
	standardInput.onEnd = func() { hasEnded = true }
	return loop.until(func() bool { return hasEnded })
}

// dialAll connects, and waits until settings have been exchanged, so that what a connection costs is no part of a call.
func dialAll(work *Work, loop *Loop) []*GRPC {
	var callers []*GRPC
	for index := range work.spec.Connections {
		target := work.spec.Targets[index%len(work.spec.Targets)]
		caller, err := dialGRPC(work, loop, target)
		for work.spec.DialAfterGo && err != nil && time.Now().Before(loop.deadline) {
			time.Sleep(time.Millisecond)
			caller, err = dialGRPC(work, loop, target)
		}
		fail(err)
		callers = append(callers, caller)
	}
	fail(loop.until(func() bool {
		return !slices.ContainsFunc(callers, func(caller *GRPC) bool { return !caller.isReady })
	}))
	return callers
}

func finish(tallies []*Tally, took time.Duration, cpuBefore float64) {
	result := sum(tallies, took)
	result.CPUSeconds = ownCPU() - cpuBefore
	text, err := json.Marshal(result)
	fail(err)
	fmt.Println(string(text))
}

func ownCPU() float64 {
	var used syscall.Rusage
	fail(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
