{{/* The release's name, which already says what it is where it was called so. */}}
{{- define "agent-service.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "agent-service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "agent-service.labels" -}}
{{ include "agent-service.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "agent-service.secret" -}}
{{ .Values.secret.existing | default (include "agent-service.name" .) }}
{{- end }}

{{- define "agent-service.keys" -}}
{{- if .Values.keys.existing }}{{ .Values.keys.existing }}
{{- else if .Values.keys.content }}{{ include "agent-service.name" . }}-keys
{{- end }}
{{- end }}

{{- define "agent-service.claim" -}}
{{ .Values.persistence.existing | default (include "agent-service.name" .) }}
{{- end }}

{{/* What can be told before anything is installed. */}}
{{- define "agent-service.check" -}}
{{- if gt (int .Values.replicas) 1 }}
{{- fail (printf "replicas is %v, but only 1 is possible: tasks are kept in a SQLite file, which processes of several machines cannot share" .Values.replicas) }}
{{- end }}
{{- if and .Values.secret.existing .Values.secret.values }}
{{- fail "secret.values would be ignored: set secret.existing to \"\" to have the chart make the Secret" }}
{{- end }}
{{- if and .Values.keys.existing .Values.keys.content }}
{{- fail "keys.content would be ignored: set keys.existing to \"\" to have the chart make the Secret" }}
{{- end }}
{{- if and .Values.tls.verifyClients (not .Values.tls.secret) }}
{{- fail "tls.verifyClients needs tls.secret" }}
{{- end }}
{{- range $name := list "AGENT_SERVICE_CONFIG_PATH" "API_HOST" "API_KEYS_FILE" "API_PORT" "DATABASE_URL" "DRAIN_DELAY" "DRAIN_GRACE" "HEALTH_PORT" "METRICS_PORT" "TLS_CERT_FILE" "TLS_CLIENT_CA_FILE" "TLS_KEY_FILE" }}
{{- if hasKey $.Values.env $name }}
{{- fail (printf "env.%s is set by the chart itself: see the other values" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the drain takes, 5 s in which calls that were told to end do so and the store is closed, and 5 s to spare. */}}
{{- define "agent-service.termination" -}}
{{ add (ceil .Values.drain.delay) (ceil .Values.drain.grace) 5 5 }}
{{- end }}
