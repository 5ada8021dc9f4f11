package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	windowBytes     = 16 << 20
	connectionBytes = 1 << 30
	prefixBytes     = 5 // of a gRPC message: a flag and a length
)

// GRPC is one connection. Everything happens in the goroutine that reads it.
type GRPC struct {
	work     *Work
	tally    Tally
	socket   net.Conn
	reader   *bufio.Reader
	writer   *bufio.Writer
	framer   *http2.Framer
	block    bytes.Buffer
	encoder  *hpack.Encoder
	headers  []hpack.HeaderField
	body     []byte
	streams  map[uint32]*stream
	free     []*stream
	nextID   uint32
	window   int64 // what may still be sent on the connection
	waiting  int   // calls that wait for the window
	received int64 // since the peer's window was last filled up
}

type stream struct {
	answer  Answer
	buffer  []byte
	status  string
	message string
}

func dialGRPC(work *Work, target string) (Caller, error) {
	socket, err := net.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	spec := work.spec
	c := &GRPC{
		work: work, socket: socket, streams: map[uint32]*stream{}, nextID: 1, window: 65535,
		reader: bufio.NewReaderSize(socket, 1<<16), writer: bufio.NewWriterSize(socket, 1<<16),
	}
	c.encoder = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer(c.writer, c.reader)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetMaxReadFrameSize(1 << 20)
	c.framer.SetReuseFrames()
	c.headers = []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: spec.Path},
		{Name: ":authority", Value: target}, {Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"}, {Name: "user-agent", Value: "bench-load"},
	}
	for name, value := range spec.Headers {
		c.headers = append(c.headers, hpack.HeaderField{Name: name, Value: value})
	}
	c.body = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(spec.Body)))
	c.body = append(c.body, spec.Body...)
	if len(c.body) > 16384 {
		return nil, fmt.Errorf("a request of %d bytes does not fit one frame", len(c.body))
	}
	return c, c.greet()
}

// greet exchanges settings, so that what a connection costs is not part of the calls.
func (c *GRPC) greet() error {
	if _, err := c.writer.WriteString(http2.ClientPreface); err != nil {
		return err
	}
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: windowBytes}, {ID: http2.SettingEnablePush, Val: 0},
	}
	if err := c.framer.WriteSettings(settings...); err != nil {
		return err
	}
	if err := c.framer.WriteWindowUpdate(0, connectionBytes); err != nil {
		return err
	}
	for {
		if err := c.writer.Flush(); err != nil {
			return err
		}
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := c.take(frame); err != nil {
			return err
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			return c.writer.Flush()
		}
	}
}

// Run keeps so many calls under way until none are left.
func (c *GRPC) Run(inFlight int) error {
	for range inFlight {
		if err := c.call(); err != nil {
			return err
		}
	}
	for len(c.streams) > 0 || c.waiting > 0 {
		if c.reader.Buffered() == 0 {
			if err := c.writer.Flush(); err != nil {
				return err
			}
		}
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := c.take(frame); err != nil {
			return err
		}
	}
	return nil
}

// Tally is what this connection has measured.
func (c *GRPC) Tally() *Tally { return &c.tally }

func (c *GRPC) call() error {
	if c.window < int64(len(c.body)) {
		c.waiting++
		return nil
	}
	if !c.work.next() {
		return nil
	}
	c.block.Reset()
	for _, field := range c.headers {
		if err := c.encoder.WriteField(field); err != nil {
			return err
		}
	}
	id := c.nextID
	c.nextID += 2
	opened := &stream{}
	if last := len(c.free) - 1; last >= 0 {
		opened, c.free = c.free[last], c.free[:last]
	}
	c.streams[id] = opened
	opened.answer.began = time.Now()
	c.window -= int64(len(c.body))
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	return c.framer.WriteData(id, true, c.body)
}

func (c *GRPC) take(frame http2.Frame) error {
	switch frame := frame.(type) {
	case *http2.DataFrame:
		return c.takeData(frame)
	case *http2.MetaHeadersFrame:
		if taken := c.streams[frame.StreamID]; taken != nil {
			for _, field := range frame.Fields {
				switch field.Name {
				case "grpc-status":
					taken.status = field.Value
				case "grpc-message":
					taken.message = field.Value
				}
			}
			if frame.StreamEnded() {
				return c.end(frame.StreamID, "")
			}
		}
	case *http2.RSTStreamFrame:
		return c.end(frame.StreamID, fmt.Sprintf("the stream was reset: %v", frame.ErrCode))
	case *http2.WindowUpdateFrame:
		if frame.StreamID == 0 {
			return c.refill(int64(frame.Increment))
		}
	case *http2.SettingsFrame:
		return c.takeSettings(frame)
	case *http2.PingFrame:
		if !frame.IsAck() {
			return c.framer.WritePing(true, frame.Data)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server ended the connection: %v %q", frame.ErrCode, frame.DebugData())
	}
	return nil
}

func (c *GRPC) takeSettings(frame *http2.SettingsFrame) error {
	if frame.IsAck() {
		return nil
	}
	if size, ok := frame.Value(http2.SettingHeaderTableSize); ok {
		c.encoder.SetMaxDynamicTableSizeLimit(size)
	}
	return c.framer.WriteSettingsAck()
}

func (c *GRPC) refill(bytes int64) error {
	c.window += bytes
	waiting := c.waiting
	c.waiting = 0
	for range waiting {
		if err := c.call(); err != nil {
			return err
		}
	}
	return nil
}

func (c *GRPC) takeData(frame *http2.DataFrame) error {
	c.received += int64(frame.Length)
	if c.received > connectionBytes/2 {
		if err := c.framer.WriteWindowUpdate(0, uint32(c.received)); err != nil {
			return err
		}
		c.received = 0
	}
	taken := c.streams[frame.StreamID]
	if taken == nil {
		return nil
	}
	taken.buffer = append(taken.buffer, frame.Data()...)
	rest := taken.buffer
	for len(rest) >= prefixBytes {
		size := prefixBytes + int(binary.BigEndian.Uint32(rest[1:prefixBytes]))
		if len(rest) < size {
			break
		}
		c.tally.add(&taken.answer, rest[prefixBytes:size], c.work.spec)
		if taken.answer.messages == max(1, c.work.spec.MessagesMin) {
			c.work.open.Add(1)
		}
		rest = rest[size:]
	}
	taken.buffer = append(taken.buffer[:0], rest...)
	if frame.StreamEnded() {
		return c.end(frame.StreamID, "the stream ended without a status")
	}
	return nil
}

// end checks the answer of a stream and makes the next call.
func (c *GRPC) end(id uint32, problem string) error {
	ended := c.streams[id]
	if ended == nil {
		return nil // a reset after the end: the server did not wait for ours
	}
	delete(c.streams, id)
	if c.work.spec.Hold {
		return fmt.Errorf("a stream that stays open has ended: %s grpc-status %q: %s", problem, ended.status, ended.message)
	}
	if problem == "" && ended.status != "0" {
		problem = fmt.Sprintf("grpc-status %q: %s", ended.status, ended.message)
	}
	c.tally.end(&ended.answer, problem, c.work.spec)
	*ended = stream{buffer: ended.buffer[:0], answer: Answer{last: ended.answer.last[:0]}}
	c.free = append(c.free, ended)
	return c.call()
}
