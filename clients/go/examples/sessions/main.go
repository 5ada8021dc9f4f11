package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	agentservice "agent-service.dev/clients/go"
	"agent-service.dev/clients/go/agentservicev1"
)

func main() {
	client, err := agentservice.FromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	session := "trip-" + rand.Text()
	for _, text := range []string{"I am going to Tokyo.", "Where am I going?"} {
		task, err := client.Run(ctx, agentservice.Request{Task: text, SessionID: session})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(task.GetOutput())
	}

	// One page after the other; ListTasks returns a single one.
	for task, err := range client.AllTasks(ctx, &agentservicev1.ListTasksRequest{SessionId: session, PageSize: 1}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(task.GetId(), task.GetUsage().GetInputTokens())
	}

	erased, err := client.DeleteSession(ctx, session)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(erased, "tasks erased")
}
