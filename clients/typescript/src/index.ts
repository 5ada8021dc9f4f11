/** The TypeScript client of agent-service. */

export { Client, type ClientOptions, type ToolResult } from "./client.js";
export type { ConnectionOptions, TlsOptions } from "./connection.js";
export { CallError, type Code, type Violation } from "./errors.js";
export { approve, deny, failure, reply, result, runAgain } from "./requests.js";
export type { CallOptions, ListOptions, RunOptions, ToolOptions, UsageOptions, WatchOptions } from "./requests.js";
export * from "./generated/agent_service/v1/agent_pb.js";
export * from "./generated/agent_service/v1/agent_service_pb.js";
export * from "./generated/agent_service/v1/error_reason_pb.js";
export * from "./generated/agent_service/v1/task_event_pb.js";
export * from "./generated/agent_service/v1/task_pb.js";
export * from "./generated/agent_service/v1/tool_pb.js";
