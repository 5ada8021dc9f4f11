package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What the scenario expects against what is there (clients/scenario.md, "Matching"). Values are those of YAML and JSON:
// maps, lists and scalars. It knows no client.

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

// filled is the value with variables in place of their names.
func filled(value any, variables map[string]string) (any, error) {
	switch value := value.(type) {
	case string:
		var err error
		text := variable.ReplaceAllStringFunc(value, func(name string) string {
			saved, ok := variables[variable.FindStringSubmatch(name)[1]]
			if !ok {
				err = fmt.Errorf("%s was never saved", name)
			}
			return saved
		})
		return text, err
	case map[string]any:
		made := map[string]any{}
		for key, item := range value {
			var err error
			if made[key], err = filled(item, variables); err != nil {
				return nil, err
			}
		}
		return made, nil
	case []any:
		made := make([]any, len(value))
		for i, item := range value {
			var err error
			if made[i], err = filled(item, variables); err != nil {
				return nil, err
			}
		}
		return made, nil
	}
	return value, nil
}

// found is the scalar at a dotted place, as text.
func found(place string, value any) (string, error) {
	for name := range strings.SplitSeq(place, ".") {
		var next any
		switch there := value.(type) {
		case map[string]any:
			next = there[name]
		case []any:
			if i, err := strconv.Atoi(name); err == nil && 0 <= i && i < len(there) {
				next = there[i]
			}
		}
		if next == nil {
			return "", fmt.Errorf("save.%s: there is none", place)
		}
		value = next
	}
	return textOf(value), nil
}

// match tells the first place where they differ.
func match(expected, actual any, place string) error {
	differs := fmt.Errorf("%s: expected %s, got %s", place, textOf(expected), textOf(actual))
	switch expected := expected.(type) {
	case map[string]any:
		if bounds := list(expected["between"]); len(bounds) == 2 && len(expected) == 1 {
			low, number, high := numberOf(bounds[0]), numberOf(actual), numberOf(bounds[1])
			if low == nil || number == nil || high == nil || *number <= *low || *high < *number {
				return differs
			}
			return nil
		}
		there, ok := actual.(map[string]any)
		if !ok {
			return differs
		}
		for _, key := range slices.Sorted(maps.Keys(expected)) {
			if err := match(expected[key], there[key], place+"."+key); err != nil {
				return err
			}
		}
	case []any:
		there := list(actual)
		if len(there) != len(expected) || actual != nil && there == nil {
			return differs
		}
		for i, item := range expected {
			if err := match(item, there[i], fmt.Sprintf("%s.%d", place, i)); err != nil {
				return err
			}
		}
	default:
		if !isAlike(textOf(expected), actual) {
			return differs
		}
	}
	return nil
}

func isAlike(expected string, actual any) bool {
	switch expected {
	case "*":
		return !isNothing(actual)
	case "":
		return isNothing(actual)
	}
	switch actual.(type) {
	case nil, map[string]any, []any:
		return false
	}
	if part, ok := strings.CutPrefix(expected, "~"); ok {
		return strings.Contains(textOf(actual), part)
	}
	want, got := numberOf(expected), numberOf(actual)
	return expected == textOf(actual) || want != nil && got != nil && *want == *got
}

func isNothing(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return false
}

// numberOf is the number that a scalar is or spells, nil if it is none.
func numberOf(value any) *float64 {
	switch value.(type) {
	case nil, bool, map[string]any, []any:
		return nil
	}
	number, err := strconv.ParseFloat(textOf(value), 64)
	if err != nil {
		return nil
	}
	return &number
}

// textOf is a scalar as text; of anything else, its JSON.
func textOf(value any) string {
	switch value := value.(type) {
	case nil:
		return "nothing"
	case string:
		return value
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
