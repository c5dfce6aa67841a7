{{- /*
A stage: ServiceAccount, CronJob and, with runNow, the one-off Job NAME-now. A subchart's whole template is

  {{ include "seed-lib.stage" . }}

Its name is the chart's and the command's: "seed-analytics fit-survival-churn". Chart.yaml's annotations say which R
service it calls, if any, and its place among the Jobs that run now.
*/}}
{{- define "seed-lib.stage" -}}
{{- $c := dict "root" . "service" (index .Chart.Annotations "seed-analytics/service") -}}
{{- include "seed-lib.values" (list $c "stages") -}}
{{- $v := $c.values -}}
{{- $name := .Chart.Name -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "seed-lib.metadata" (dict "root" . "name" $name "component" "stage" "annotations" (merge (deepCopy $v.serviceAccount.annotations) (include "seed-lib.proxyIdentity" . | fromYaml))) | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "seed-lib.metadata" (dict "root" . "name" $name "component" "stage" "max" 52) | nindent 2 }}
spec:
  schedule: {{ $v.schedule | quote }}
  timeZone: {{ $v.timeZone | quote }}
  suspend: {{ $v.suspend }}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {{ int64 $v.startingDeadlineSeconds }}
  successfulJobsHistoryLimit: {{ int64 $v.successfulJobsHistoryLimit }}
  failedJobsHistoryLimit: {{ int64 $v.failedJobsHistoryLimit }}
  jobTemplate:
    metadata:
      labels:
        {{- include "seed-lib.selector" (list . $name) | nindent 8 }}
        app.kubernetes.io/component: stage
        app.kubernetes.io/part-of: seed-analytics
    spec:
      {{- include "seed-lib.stage.jobSpec" $c | nindent 6 }}
{{- if $v.runNow }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "seed-lib.metadata" (dict "root" . "name" $name "objectName" (printf "%s-now" $name) "component" "stage" "annotations" (dict
    "helm.sh/hook" "post-install,post-upgrade"
    "helm.sh/hook-weight" (index .Chart.Annotations "seed-analytics/order")
    "helm.sh/hook-delete-policy" "before-hook-creation")) | nindent 2 }}
spec:
  {{- include "seed-lib.stage.jobSpec" $c | nindent 2 }}
{{- end }}
{{- end }}

{{- define "seed-lib.stage.jobSpec" -}}
{{- $grants := list "dns" "database" -}}
{{- $secrets := list "database" -}}
{{- if .service -}}
{{- $secrets = append $secrets (include "seed-lib.serviceKey" .service) -}}
{{- if not .values.serviceUrl -}}{{- $grants = append $grants .service -}}{{- end -}}
{{- end -}}
{{- include "seed-lib.jobSpec" (dict "root" .root "values" .values "name" .root.Chart.Name "component" "stage"
  "args" (list .root.Chart.Name) "env" (include "seed-lib.stage.env" .)
  "grants" $grants "secrets" $secrets
  "serviceAccountName" (include "seed-lib.name" (list .root .root.Chart.Name))) }}
{{- end }}

{{- define "seed-lib.stage.env" -}}
{{ include "seed-lib.jobEnv" . }}
{{- with .service }}
{{- $key := include "seed-lib.serviceKey" . }}
{{ include "seed-lib.envFromSecret" (list $.root $key (include "seed-lib.secretEnv" $key)) }}
- name: R_{{ upper $key }}_BASE_URL
  value: {{ default (printf "http://%s" (include "seed-lib.name" (list $.root .))) $.values.serviceUrl | quote }}
{{- end }}
{{- end }}
