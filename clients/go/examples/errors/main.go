package main

import (
	"context"
	"errors"
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

	_, err = client.Run(ctx, agentservice.Request{Agent: "no such agent"})
	var refused *agentservice.Error
	if !errors.As(err, &refused) {
		log.Fatal("was not refused")
	}
	fmt.Println(refused.Code, refused.Reason) // InvalidArgument FIELD_INVALID
	for _, violation := range refused.Violations {
		fmt.Println(violation.Field, violation.Description)
	}
	if refused.RetryDelay > 0 {
		fmt.Println("may succeed in", refused.RetryDelay)
	}

	// A task that ran and failed is an answer.
	task, err := client.Run(ctx, agentservice.Request{Task: "say hello", TokensMax: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.GetState(), task.GetFailure().GetReason(), task.GetFailure().GetMessage())
}
