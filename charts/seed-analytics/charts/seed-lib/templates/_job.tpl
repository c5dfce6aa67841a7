{{- /*
The spec of every Job that runs the command seed-analytics: stages, migration, simulator.

Exit codes (seed_analytics.errors): 64 usage, 65 input contract broken, 70 a defect, 76 fit rejected, 78 configuration:
trying again cannot help, the Job fails at once. All others, among them 69 service down and 75 lock held or upstream
stale, are tried again up to backoffLimit. A pod that was evicted, preempted, drained or deleted (143) does not count.

seed-lib.jobSpec (dict "root" $ "values" $v "name" "migrate" "component" "migration" "args" (list "migrate")
  "env" "...yaml..." "grants" (list ..) "secrets" (list ..) ["serviceAccountName" ..])
*/}}
{{- define "seed-lib.jobSpec" -}}
{{- $v := .values -}}
backoffLimit: {{ int64 $v.backoffLimit }}
activeDeadlineSeconds: {{ int64 $v.activeDeadlineSeconds }}
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: Ignore
      onExitCodes:
        containerName: {{ .name | quote }}
        operator: In
        values: [143]
    - action: FailJob
      onExitCodes:
        containerName: {{ .name | quote }}
        operator: In
        values: [64, 65, 70, 76, 78]
template:
  metadata:
    {{- include "seed-lib.jobPodMetadata" . | nindent 4 }}
  spec:
    {{- include "seed-lib.jobPodSpec" . | nindent 4 }}
{{- end }}

{{- define "seed-lib.jobPodMetadata" -}}
labels:
  {{- include "seed-lib.podLabels" (dict "root" .root "name" .name "component" .component "grants" (include "seed-lib.jobGrants" . | fromYamlArray) "extra" .values.podLabels) | nindent 2 }}
annotations:
  {{- include "seed-lib.podAnnotations" . | nindent 2 }}
{{- end }}

{{- /* What every command reads: the database, and the settings of the stage with those of all stages under them. */}}
{{- define "seed-lib.jobEnv" -}}
{{ include "seed-lib.envFromSecret" (list .root "database" "DATABASE_URL") }}
{{- include "seed-lib.envMap" .values.settings }}
{{- end }}

{{- /* Through the proxy the database is reached at Cloud SQL's addresses, not at the database's own. */}}
{{- define "seed-lib.jobGrants" -}}
{{- range .grants }}
- {{ if and (eq . "database") $.root.Values.global.cloudSqlProxy.enabled }}cloud-sql{{ else }}{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "seed-lib.jobPodSpec" -}}
{{- include "seed-lib.podSpec" . }}
terminationGracePeriodSeconds: 30
restartPolicy: Never
{{- with include "seed-lib.cloudSqlProxy" .root | trim }}
initContainers:
  {{- . | nindent 2 }}
{{- end }}
containers:
  - {{ include "seed-lib.container" . | nindent 4 | trim }}
    args:
      {{- toYaml .args | nindent 6 }}
{{- end }}
