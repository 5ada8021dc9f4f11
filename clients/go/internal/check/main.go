// Command check plays the scenario (clients/scenario.md) through the Go client, or runs the examples; it prints TAP.
//
// usage: check SCENARIO_YAML | check examples DIRECTORY      of which every file is a program
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// errSkipped ends a step that cannot be played here.
var errSkipped = errors.New("SCENARIO_RESTART is not set")

// test is one line of the report.
type test struct {
	name string
	run  func(context.Context) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var hold bool
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 1:
		hold, err = play(ctx, arguments[0])
	case len(arguments) == 2 && arguments[0] == "examples":
		hold, err = runExamples(ctx, arguments[1])
	default:
		err = errors.New("usage: check SCENARIO_YAML | check examples DIRECTORY")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !hold {
		os.Exit(1)
	}
}

func play(ctx context.Context, path string) (bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var steps []map[string]any
	if err := yaml.Unmarshal(text, &steps); err != nil {
		return false, err
	}
	conversation := newScenario()
	defer conversation.close()
	var tests []test
	for _, step := range steps {
		tests = append(tests, test{fmt.Sprint(step["step"]), func(ctx context.Context) error { return conversation.play(ctx, step) }})
	}
	return report(ctx, tests), nil
}

func runExamples(ctx context.Context, directory string) (bool, error) {
	programs, err := filepath.Glob(filepath.Join(directory, "*"))
	if err != nil {
		return false, err
	}
	slices.Sort(programs)
	var tests []test
	for _, program := range programs {
		tests = append(tests, test{filepath.Base(program), func(ctx context.Context) error {
			if out, err := exec.CommandContext(ctx, program).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}})
	}
	return report(ctx, tests), nil
}

// report runs the tests in order and says whether all of them hold.
func report(ctx context.Context, tests []test) bool {
	ci := strings.ToLower(os.Getenv("CI"))
	mayNotSkip := ci != "" && ci != "0" && ci != "false"
	fmt.Printf("TAP version 13\n1..%d\n", len(tests))
	allHold := true
	for i, test := range tests {
		err := test.run(ctx)
		switch {
		case err == nil:
			fmt.Printf("ok %d - %s\n", i+1, test.name)
		case errors.Is(err, errSkipped) && !mayNotSkip:
			fmt.Printf("ok %d - %s # SKIP %v\n", i+1, test.name, err)
		default:
			allHold = false
			fmt.Printf("not ok %d - %s\n  ---\n  message: %s\n  ...\n", i+1, test.name, quoted(err.Error()))
		}
	}
	return allHold
}

func quoted(text string) string {
	var told strings.Builder
	encoder := json.NewEncoder(&told)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(told.String())
}
