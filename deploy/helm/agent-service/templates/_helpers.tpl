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
{{- include "agent-service.checkVariables" . }}
{{- include "agent-service.checkConfig" . }}
{{- range $name := list "AGENT_SERVICE_CONFIG_PATH" "API_HOST" "API_KEYS_FILE" "API_PORT" "DATABASE_URL" "DRAIN_DELAY" "DRAIN_GRACE" "HEALTH_PORT" "METRICS_PORT" "TLS_CERT_FILE" "TLS_CLIENT_CA_FILE" "TLS_KEY_FILE" }}
{{- range $value := list "env" "extraEnv" }}
{{- if hasKey (get $.Values $value) $name }}
{{- fail (printf "%s.%s is set by the chart itself: see the other values" $value $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables that are no text, no settings, or secrets. files/settings.txt has the settings, the secret ones with a star. */}}
{{- define "agent-service.checkVariables" -}}
{{- $settings := .Files.Lines "files/settings.txt" }}
{{- range $value := list "env" "extraEnv" }}
{{- range $name, $text := get $.Values $value }}
{{- if not (kindIs "string" $text) }}
{{- fail (printf "%s.%s must be text: use --set-string, or quotation marks in a file of values (as a number, 1000000 would become 1e+06)" $value $name) }}
{{- end }}
{{- if or (has (printf "%s*" $name) $settings) (regexMatch "(^|_)(API_KEY|TOKEN|SECRET|PASSWORD)$" $name) }}
{{- fail (printf "%s.%s is a secret, and would stand in the Deployment for all to read: put it into the Secret that secret.existing names, or into secret.values" $value $name) }}
{{- end }}
{{- if and (eq $value "env") (not (has $name $settings)) }}
{{- $alike := list }}
{{- range $settings }}
{{- if hasPrefix (printf "%s_" (splitList "_" $name | first)) . }}
{{- $alike = append $alike (trimSuffix "*" .) }}
{{- end }}
{{- end }}
{{- $hint := $alike | empty | ternary "docs/configuration.md lists the settings" (printf "there are %s" (join ", " $alike)) }}
{{- fail (printf "env.%s is not a setting of the service: %s; variables of libraries and of your own tools go into extraEnv" $name $hint) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a chart can tell of config.yaml. `agent-service config check` tells the rest. */}}
{{- define "agent-service.checkConfig" -}}
{{- with .Values.config }}
{{- $file := fromYaml . }}
{{- if hasKey $file "Error" }}
{{- fail (printf "config is not the text of a config.yaml (--set-file config=config.yaml): %s" (get $file "Error")) }}
{{- end }}
{{- range $section, $_ := $file }}
{{- if not (has $section (list "models" "agents" "rate_limits" "budgets" "tools")) }}
{{- fail (printf "config has the section %s, which there is not; there are models, agents, rate_limits, budgets, tools" $section) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the drain takes, 5 s in which calls that were told to end do so and the store is closed, and 5 s to spare. */}}
{{- define "agent-service.termination" -}}
{{ add (ceil .Values.drain.delay) (ceil .Values.drain.grace) 5 5 }}
{{- end }}
