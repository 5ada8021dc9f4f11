package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// HTTP1 is one connection of HTTP/1.1, with one call at a time, in a goroutine of its own.
type HTTP1 struct {
	spec    *Spec
	tally   Tally
	socket  net.Conn
	reader  *bufio.Reader
	request []byte
}

func overHTTP1(spec *Spec, input *bufio.Reader) error {
	callers := make([]*HTTP1, spec.InFlight)
	for index := range callers {
		caller, err := dialHTTP1(spec, spec.Targets[index%len(spec.Targets)])
		fail(err)
		callers[index] = caller
	}
	fail(ready(input))
	before, began := ownCPU(), time.Now()
	var begun atomic.Int64
	done := make(chan error, len(callers))
	for _, caller := range callers {
		go func() { done <- caller.run(&begun) }()
	}
	tallies := make([]*Tally, len(callers))
	for index, caller := range callers {
		fail(<-done)
		tallies[index] = &caller.tally
	}
	finish(tallies, time.Since(began), before)
	return nil
}

func dialHTTP1(spec *Spec, target string) (*HTTP1, error) {
	socket, err := net.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("POST %s HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n", spec.Path, target, len(spec.Body))
	for name, value := range spec.Headers {
		text += name + ": " + value + "\r\n"
	}
	request := append([]byte(text+"\r\n"), spec.Body...)
	return &HTTP1{spec: spec, socket: socket, reader: bufio.NewReader(socket), request: request}, nil
}

// run makes one call after another until none are left.
func (c *HTTP1) run(begun *atomic.Int64) error {
	if err := c.socket.SetDeadline(time.Now().Add(time.Duration(c.spec.TimeoutS * float64(time.Second)))); err != nil {
		return err
	}
	for begun.Add(1) <= c.spec.Calls {
		answer := Answer{began: time.Now()}
		if _, err := c.socket.Write(c.request); err != nil {
			return err
		}
		response, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		c.tally.add(&answer, body, c.spec)
		problem := ""
		if response.StatusCode != http.StatusOK {
			problem = response.Status
		}
		c.tally.end(&answer, problem, c.spec)
	}
	return nil
}
