package main

import (
	"context"
	"fmt"
	"log"

	agentservice "agent-service.dev/clients/go"
)

func main() {
	client, err := agentservice.FromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	tools, err := client.ListTools(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, tool := range tools {
		fmt.Println(tool.GetName(), "-", tool.GetDescription())
	}

	inputs := map[string]any{"expression": "17.5% of 2340"}
	result, err := client.InvokeTool(ctx, agentservice.ToolCall{Name: "calculator", Inputs: inputs})
	if err != nil {
		log.Fatal(err)
	}
	if failure := result.GetError(); failure != nil {
		log.Fatal(failure.GetMessage())
	}
	fmt.Println(result.GetOutput().AsInterface())
}
