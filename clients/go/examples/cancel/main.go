package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	agentservice "agent-service.dev/clients/go"
)

func main() {
	client, err := agentservice.FromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	// The task's own time: when it is over, the task has FAILED, and the call is answered.
	task, err := client.Run(ctx, agentservice.Request{Task: "say hello", Timeout: 30 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.GetOutput())

	// The caller's time, and any other reason to stop: the end of a context cancels the task.
	ctx, stop := context.WithCancel(ctx)
	time.AfterFunc(500*time.Millisecond, stop)
	_, err = client.Run(ctx, agentservice.Request{Task: "think without end"})
	fmt.Println("stopped:", errors.Is(err, context.Canceled))
}
