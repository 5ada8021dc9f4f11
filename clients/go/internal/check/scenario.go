package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	agentservice "agent-service.dev/clients/go"
)

const actionTime = 30 * time.Second

var callKeys = []string{"call", "as", "with", "until", "meanwhile", "give_up", "expect", "error", "save"}

// scenario is the conversation so far.
type scenario struct {
	callers   map[string]*agentservice.Client
	variables map[string]string
}

func newScenario() *scenario {
	run := strings.ToLower(rand.Text()[:8])
	return &scenario{map[string]*agentservice.Client{}, map[string]string{"run": run}}
}

func (s *scenario) close() {
	for _, caller := range s.callers {
		_ = caller.Close()
	}
}

// play takes the actions of a step.
func (s *scenario) play(ctx context.Context, step map[string]any) error {
	if err := known(step, "step", "tries", "do"); err != nil {
		return err
	}
	if os.Getenv("SCENARIO_RESTART") == "" && restarts(step["do"]) {
		return errSkipped
	}
	err := s.takeAll(ctx, step["do"])
	tries, _ := step["tries"].(int)
	for ; err != nil && tries > 1; tries-- {
		err = s.takeAll(ctx, step["do"])
	}
	return err
}

func (s *scenario) takeAll(ctx context.Context, actions any) error {
	for _, action := range list(actions) {
		action, _ := action.(map[string]any)
		if err := s.takeInTime(ctx, action); err != nil {
			name, isCall := action["call"]
			if !isCall {
				name = strings.Join(slices.Sorted(maps.Keys(action)), " ")
			}
			return fmt.Errorf("%v: %w", name, err)
		}
	}
	return nil
}

// takeInTime takes an action. Its time is no deadline of its context: the service would hear of it.
func (s *scenario) takeInTime(ctx context.Context, action map[string]any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	isLate := make(chan struct{})
	timer := time.AfterFunc(actionTime, func() { close(isLate); cancel() })
	defer timer.Stop()
	err := s.take(ctx, action)
	select {
	case <-isLate:
		return fmt.Errorf("took more than %v", actionTime)
	default:
		return err
	}
}

func (s *scenario) take(ctx context.Context, action map[string]any) error {
	if seconds, ok := action["wait_s"]; ok && len(action) == 1 {
		wait, err := filled(seconds, s.variables)
		if err != nil {
			return err
		}
		number, err := strconv.ParseFloat(textOf(wait), 64)
		if err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(number * float64(time.Second))):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if action["restart"] == true && len(action) == 1 {
		command := exec.CommandContext(ctx, "sh", "-c", os.Getenv("SCENARIO_RESTART"))
		command.Stdout, command.Stderr = os.Stderr, os.Stderr
		return command.Run()
	}
	if err := known(action, callKeys...); err != nil {
		return err
	}
	return s.call(ctx, action)
}

// outcome is what a call came to.
type outcome struct {
	result any
	err    error
}

func (s *scenario) call(ctx context.Context, action map[string]any) error {
	// A client that cannot be made is an error of its first call.
	caller, unmade := s.caller(textOr(action["as"], "alice"))
	with, err := filled(action["with"], s.variables)
	if err != nil {
		return err
	}
	ctx, giveUp := context.WithCancel(ctx)
	done := make(chan outcome, 1)
	go func() {
		if unmade != nil {
			done <- outcome{nil, unmade}
			return
		}
		result, err := result(ctx, caller, textOr(action["call"], ""), with, textOr(action["until"], ""))
		done <- outcome{result, err}
	}()
	err = s.takeAll(ctx, action["meanwhile"])
	if err != nil || action["give_up"] == true {
		giveUp()
	}
	came := <-done
	giveUp()
	if err != nil {
		return err
	}
	told, err := s.judged(came, action)
	if err != nil {
		return err
	}
	places, _ := action["save"].(map[string]any)
	for name, place := range places {
		if s.variables[name], err = found(textOf(place), told); err != nil {
			return err
		}
	}
	return nil
}

// judged is the result or the error, which is as expected.
func (s *scenario) judged(came outcome, action map[string]any) (any, error) {
	part, told := "expect", came.result
	if came.err != nil {
		var err error
		if told, err = errorOf(came.err); err != nil {
			return nil, err
		}
		part = "error"
	}
	expected, isExpected := action[part]
	if _, wantsError := action["error"]; wantsError != (came.err != nil) {
		if wantsError {
			return nil, fmt.Errorf("expected an error, got %s", textOf(told))
		}
		return nil, fmt.Errorf("expected no error, got %w", came.err)
	}
	if !isExpected {
		return told, nil
	}
	expected, err := filled(expected, s.variables)
	if err != nil {
		return nil, err
	}
	return told, match(expected, told, part)
}

func (s *scenario) caller(name string) (*agentservice.Client, error) {
	if s.callers[name] == nil {
		key := agentservice.WithAPIKey(os.Getenv("SCENARIO_KEY_" + strings.ToUpper(name)))
		made, err := agentservice.FromEnvironment(key)
		if err != nil {
			return nil, err
		}
		s.callers[name] = made
	}
	return s.callers[name], nil
}

func restarts(actions any) bool {
	return slices.ContainsFunc(list(actions), func(action any) bool {
		there, _ := action.(map[string]any)
		return there["restart"] != nil || restarts(there["meanwhile"])
	})
}

func known(given map[string]any, keys ...string) error {
	for key := range given {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("unknown key: %s", key)
		}
	}
	return nil
}

func list(value any) []any {
	items, _ := value.([]any)
	return items
}

func textOr(value any, other string) string {
	if value == nil {
		return other
	}
	return textOf(value)
}
