package agentservice_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheREADMEShowsEveryExampleAsItIsRun(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, block := range strings.Split(string(readme), "```go\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		shown[text] = true
	}
	examples, err := filepath.Glob("examples/*/main.go")
	if err != nil || len(examples) == 0 {
		t.Fatal(err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		if !shown[string(text)] {
			t.Errorf("%s is not shown as it is", example)
		}
		delete(shown, string(text))
	}
	for block := range shown {
		t.Errorf("is shown, but no example:\n%s", block)
	}
}
