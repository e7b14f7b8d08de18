{{- define "muse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "muse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "muse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "muse.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "muse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{ include "muse.selector" . }}
{{- end -}}

{{- define "muse.selector" -}}
app.kubernetes.io/name: {{ include "muse.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "muse.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "muse.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "muse.env" -}}
- { name: MUSE_KAFKA_BOOTSTRAP_SERVERS, value: {{ .Values.kafka.bootstrapServers | quote }} }
- { name: MUSE_KAFKA_SECURITY_PROTOCOL, value: {{ .Values.kafka.securityProtocol | quote }} }
{{- with .Values.kafka.saslMechanism }}
- { name: MUSE_KAFKA_SASL_MECHANISM, value: {{ . | quote }} }
{{- end }}
{{- with .Values.kafka.saslUsername }}
- { name: MUSE_KAFKA_SASL_USERNAME, value: {{ . | quote }} }
{{- end }}
{{- with .Values.kafka.passwordKey }}
- { name: MUSE_KAFKA_SASL_PASSWORD_FILE, value: {{ printf "/secrets/kafka/%s" . | quote }} }
{{- end }}
{{- with .Values.kafka.caKey }}
- { name: MUSE_KAFKA_SSL_CA_LOCATION, value: {{ printf "/secrets/kafka/%s" . | quote }} }
{{- end }}
{{- with .Values.kafka.certificateKey }}
- { name: MUSE_KAFKA_SSL_CERTIFICATE_LOCATION, value: {{ printf "/secrets/kafka/%s" . | quote }} }
{{- end }}
{{- with .Values.kafka.privateKeyKey }}
- { name: MUSE_KAFKA_SSL_KEY_LOCATION, value: {{ printf "/secrets/kafka/%s" . | quote }} }
{{- end }}
- { name: MUSE_STORE, value: {{ .Values.store | quote }} }
{{- with .Values.storeSecret.passwordKey }}
- { name: MUSE_STORE_PASSWORD_FILE, value: {{ printf "/secrets/store/%s" . | quote }} }
{{- end }}
{{- with .Values.storeSecret.caKey }}
- { name: MUSE_STORE_SSL_CA_LOCATION, value: {{ printf "/secrets/store/%s" . | quote }} }
{{- end }}
{{- /* a volume with fsGroup may be written by its group, and native code is kept only where nobody else can write */}}
- { name: MUSE_CODE_CACHE_DIR, value: "/dev/shm/muse-stream" }
{{- with .Values.tracing.sampleRatio }}
- { name: MUSE_TRACE_SAMPLE_RATIO, value: {{ . | quote }} }
{{- end }}
{{- with .Values.tracing.endpoint }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- range $name, $value := dict "URL" .Values.registry.url "USERNAME" .Values.registry.username "OAUTH_TOKEN_ENDPOINT_URL" .Values.registry.oauthTokenEndpointUrl "OAUTH_CLIENT_ID" .Values.registry.oauthClientId "OAUTH_SCOPE" .Values.registry.oauthScope "OAUTH_LOGICAL_CLUSTER" .Values.registry.oauthLogicalCluster "OAUTH_IDENTITY_POOL" .Values.registry.oauthIdentityPool }}
{{- with $value }}
- { name: MUSE_REGISTRY_{{ $name }}, value: {{ . | quote }} }
{{- end }}
{{- end }}
{{- range $name, $key := dict "PASSWORD_FILE" .Values.registry.passwordKey "OAUTH_CLIENT_SECRET_FILE" .Values.registry.oauthClientSecretKey "SSL_CA_LOCATION" .Values.registry.caKey "SSL_CERTIFICATE_LOCATION" .Values.registry.certificateKey "SSL_KEY_LOCATION" .Values.registry.privateKeyKey }}
{{- with $key }}
- { name: MUSE_REGISTRY_{{ $name }}, value: {{ printf "/secrets/registry/%s" . | quote }} }
{{- end }}
{{- end }}
- { name: MUSE_LOG_LEVEL, value: {{ .Values.logLevel | quote }} }
- { name: MUSE_HEALTH_PORT, value: {{ .Values.ports.health | quote }} }
- { name: MUSE_METRICS_PORT, value: {{ .Values.ports.metrics | quote }} }
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
