package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	windowBytes     = 16 << 20
	connectionBytes = 1 << 30
	prefixBytes     = 5 // of a gRPC message: a flag and a length

	frameHeaderBytes = 9
)

// GRPC is one connection.
type GRPC struct {
	work     *Work
	tally    Tally
	socket   *Socket
	input    []byte       // frames that have not arrived whole
	frame    bytes.Reader // the one that is read
	framer   *http2.Framer
	block    bytes.Buffer
	encoder  *hpack.Encoder
	headers  []hpack.HeaderField
	body     []byte
	streams  map[uint32]*stream
	free     []*stream
	nextID   uint32
	isReady  bool  // settings have been exchanged
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

// dialGRPC connects and sends the preface.
func dialGRPC(work *Work, loop *Loop, target string) (*GRPC, error) {
	socket, err := loop.dial(target)
	if err != nil {
		return nil, err
	}
	c := &GRPC{work: work, socket: socket, streams: map[uint32]*stream{}, nextID: 1, window: 65535}
	socket.receive = c.receive
	c.encoder = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer(socket, &c.frame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetMaxReadFrameSize(1 << 20)
	c.framer.SetReuseFrames()
	c.headers = []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: work.spec.Path},
		{Name: ":authority", Value: target}, {Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"}, {Name: "user-agent", Value: "bench-load"},
	}
	for name, value := range work.spec.Headers {
		c.headers = append(c.headers, hpack.HeaderField{Name: name, Value: value})
	}
	c.body = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(work.spec.Body)))
	c.body = append(c.body, work.spec.Body...)
	if len(c.body) > 16384 {
		return nil, fmt.Errorf("a request of %d bytes does not fit one frame", len(c.body))
	}
	_, _ = socket.Write([]byte(http2.ClientPreface))
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: windowBytes}, {ID: http2.SettingEnablePush, Val: 0},
	}
	return c, errors.Join(
		c.framer.WriteSettings(settings...), c.framer.WriteWindowUpdate(0, connectionBytes), socket.flush(),
	)
}

// begin keeps so many calls under way until none are left.
func (c *GRPC) begin(inFlight int) error {
	for range inFlight {
		if err := c.call(); err != nil {
			return err
		}
	}
	return c.socket.flush()
}

func (c *GRPC) isDone() bool { return len(c.streams) == 0 && c.waiting == 0 }

// receive takes the frames that have arrived whole.
func (c *GRPC) receive(data []byte) error {
	c.input = append(c.input, data...)
	rest := c.input
	for len(rest) >= frameHeaderBytes {
		size := frameHeaderBytes + int(uint32(rest[0])<<16|uint32(rest[1])<<8|uint32(rest[2]))
		if len(rest) < size {
			break
		}
		c.frame.Reset(rest[:size])
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := c.take(frame); err != nil {
			return err
		}
		rest = rest[size:]
	}
	c.input = append(c.input[:0], rest...)
	return nil
}

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
	c.isReady = true
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
			c.work.open++
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
