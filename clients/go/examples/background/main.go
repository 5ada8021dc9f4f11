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

	task, err := client.Submit(ctx, agentservice.Request{Task: "What is 12 * 12?", Labels: map[string]string{"team": "billing"}})
	if err != nil {
		log.Fatal(err)
	}
	var seen int64
	for event, err := range client.Watch(ctx, task.GetId(), 0) {
		if err != nil {
			log.Fatal(err)
		}
		seen = event.GetSequence()
		if event.GetModelStarted() != nil {
			break // Leaving changes nothing: the task runs on.
		}
	}
	for event, err := range client.Watch(ctx, task.GetId(), seen) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.GetSequence(), event.GetCreateTime().AsTime())
	}
	if task, err = client.GetTask(ctx, task.GetId()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.GetOutput())
}
