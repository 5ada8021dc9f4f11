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

	task, err := client.Run(context.Background(), agentservice.Request{Task: "What is 17.5% of 2340?"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.GetOutput())
}
