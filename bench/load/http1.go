package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// HTTP1 is one connection of HTTP/1.1, with one call at a time.
type HTTP1 struct {
	work    *Work
	tally   Tally
	socket  net.Conn
	reader  *bufio.Reader
	request []byte
}

func dialHTTP1(work *Work, target string) (Caller, error) {
	socket, err := net.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("POST %s HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n", work.spec.Path, target, len(work.spec.Body))
	for name, value := range work.spec.Headers {
		text += name + ": " + value + "\r\n"
	}
	request := append([]byte(text+"\r\n"), work.spec.Body...)
	return &HTTP1{work: work, socket: socket, reader: bufio.NewReader(socket), request: request}, nil
}

// Run makes one call after another until none are left; a connection has one under way at most.
func (c *HTTP1) Run(inFlight int) error {
	if inFlight > 1 {
		return fmt.Errorf("%d calls on one connection of HTTP/1.1", inFlight)
	}
	for inFlight == 1 && c.work.next() {
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
		c.tally.add(&answer, body, c.work.spec)
		problem := ""
		if response.StatusCode != http.StatusOK {
			problem = response.Status
		}
		c.tally.end(&answer, problem, c.work.spec)
	}
	return nil
}

// Tally is what this connection has measured.
func (c *HTTP1) Tally() *Tally { return &c.tally }
