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

	task, err := client.Run(ctx, agentservice.Request{Task: "pay 5 to ann", Agent: "cashier"})
	if err != nil {
		log.Fatal(err)
	}
	for _, input := range task.GetPendingInputs() {
		fmt.Println("may it", input.GetToolCall().GetName(), input.GetToolCall().GetArgumentsJson())
		answer := agentservice.Approve() // or agentservice.Deny("ask the manager")
		if _, err := client.Resume(ctx, task.GetId(), input.GetInputId(), answer); err != nil {
			log.Fatal(err)
		}
	}
	for event, err := range client.Watch(ctx, task.GetId(), task.GetLastSequence()) {
		if err != nil {
			log.Fatal(err)
		}
		if completed := event.GetCompleted(); completed != nil {
			fmt.Println(completed.GetOutput())
		}
	}
}
