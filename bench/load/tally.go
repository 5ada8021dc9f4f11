package main

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// Quantiles of some times, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Tally is what one connection has measured and found wrong.
type Tally struct {
	calls, messages, wrong int64
	firstWrong             string
	latency, first, stamps []time.Duration
}

// Answer is one answer while it arrives.
type Answer struct {
	began    time.Time
	messages int
	last     []byte
}

// add takes a whole message; it is valid until the next call alone.
func (t *Tally) add(answer *Answer, message []byte, spec *Spec) {
	if answer.messages == 0 {
		t.first = append(t.first, time.Since(answer.began))
	}
	answer.messages++
	t.messages++
	answer.last = append(answer.last[:0], message...)
	if spec.Stamped {
		t.stamp(message)
	}
}

const (
	// stampDigits is the length of a time in nanoseconds since 1970.
	stampDigits = 19
	// stampsMax is how many deltas one message merges at most; one with more is the whole reply.
	stampsMax = 10
)

// stamp reads the first time of a message. It stands behind '@', which nothing else in a message of this benchmark has.
func (t *Tally) stamp(message []byte) {
	at := bytes.IndexByte(message, '@')
	if at < 0 || bytes.Count(message, []byte("@")) > stampsMax || len(message) < at+1+stampDigits {
		return
	}
	var sent int64
	for _, digit := range message[at+1 : at+1+stampDigits] {
		if digit < '0' || digit > '9' {
			return
		}
		sent = sent*10 + int64(digit-'0')
	}
	t.stamps = append(t.stamps, time.Duration(time.Now().UnixNano()-sent))
}

// end checks a whole answer. `problem` is what the protocol says is wrong, or empty.
func (t *Tally) end(answer *Answer, problem string, spec *Spec) {
	t.calls++
	t.latency = append(t.latency, time.Since(answer.began))
	if problem == "" {
		problem = complaint(answer, spec)
	}
	if problem != "" {
		t.wrong++
		if t.firstWrong == "" {
			t.firstWrong = problem
		}
	}
}

func complaint(answer *Answer, spec *Spec) string {
	if answer.messages < max(1, spec.MessagesMin) {
		return fmt.Sprintf("%d messages, expected at least %d", answer.messages, max(1, spec.MessagesMin))
	}
	for _, part := range spec.Expect {
		if !bytes.Contains(answer.last, part) {
			return fmt.Sprintf("the last message lacks %q: %q", part, answer.last[:min(len(answer.last), 400)])
		}
	}
	return ""
}

func sum(tallies []*Tally, took time.Duration) Result {
	result := Result{Seconds: took.Seconds()}
	var latency, first, stamps []time.Duration
	for _, tally := range tallies {
		result.Calls += tally.calls
		result.Messages += tally.messages
		result.Wrong += tally.wrong
		if result.FirstWrong == "" {
			result.FirstWrong = tally.firstWrong
		}
		latency = append(latency, tally.latency...)
		first = append(first, tally.first...)
		stamps = append(stamps, tally.stamps...)
	}
	result.LatencyMs, result.FirstMs, result.StampMs = quantiles(latency), quantiles(first), quantiles(stamps)
	return result
}

func quantiles(times []time.Duration) Quantiles {
	if len(times) == 0 {
		return Quantiles{}
	}
	slices.Sort(times)
	at := func(share float64) float64 {
		return float64(times[min(len(times)-1, int(share*float64(len(times))))]) / 1e6
	}
	return Quantiles{at(0.5), at(0.9), at(0.99), at(1)}
}
