package main

import (
	"context"
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

	for event, err := range client.Stream(context.Background(), agentservice.Request{Task: "What is 17.5% of 2340?"}) {
		if err != nil {
			log.Fatal(err)
		}
		switch is := event.GetEvent().(type) {
		case *agentservicev1.TaskEvent_ToolStarted:
			fmt.Println(event.GetSequence(), "calls", is.ToolStarted.GetName())
		case *agentservicev1.TaskEvent_ModelReplied:
			fmt.Println(event.GetSequence(), "says", is.ModelReplied.GetText())
		case *agentservicev1.TaskEvent_Completed:
			fmt.Println(event.GetSequence(), "took", is.Completed.GetUsage().GetOutputTokens(), "tokens")
		case *agentservicev1.TaskEvent_Failed:
			fmt.Println(event.GetSequence(), "failed:", is.Failed.GetFailure().GetMessage())
		}
	}
}
