{{- /* Names of the subcharts of one kind that are switched on, in their order; Chart.yaml of each says kind and order.
seed-analytics.enabled (list $ "stage") */}}
{{- define "seed-analytics.enabled" -}}
{{- $kind := index . 1 -}}
{{- $ordered := dict -}}
{{- range $name, $subchart := (index . 0).Subcharts -}}
{{- with $subchart.Chart.Annotations -}}
{{- if eq (index . "seed-analytics/kind") $kind -}}
{{- $_ := set $ordered (printf "%s %s" (index . "seed-analytics/order") $name) $name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range keys $ordered | sortAlpha }}
- {{ get $ordered . | quote }}
{{- end }}
{{- end }}

{{- define "seed-analytics.services" -}}{{ include "seed-analytics.enabled" (list . "service") }}{{- end }}
{{- define "seed-analytics.stages" -}}{{ include "seed-analytics.enabled" (list . "stage") }}{{- end }}

{{- /* "true" where there is something for helm test to verify: a stage. */}}
{{- define "seed-analytics.verifies" -}}
{{- if and .Values.verify.enabled (include "seed-analytics.stages" .) }}true{{ end -}}
{{- end }}

{{- /* The credentials that something in the release reads. */}}
{{- define "seed-analytics.credentials" -}}
{{- $read := dict -}}
{{- if or (include "seed-analytics.stages" .) (ne .Values.migrations.mode "none") .Values.devDatabase.enabled -}}
{{- $_ := set $read "database" true -}}
{{- end -}}
{{- range include "seed-analytics.services" . | fromYamlArray -}}
{{- $_ := set $read (include "seed-lib.serviceKey" .) true -}}
{{- end -}}
{{- range include "seed-analytics.stages" . | fromYamlArray -}}
{{- with index (index $.Subcharts .).Chart.Annotations "seed-analytics/service" -}}
{{- $_ := set $read (include "seed-lib.serviceKey" .) true -}}
{{- end -}}
{{- end -}}
{{- range keys $read | sortAlpha }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- /* Values of a Job of the release: the stages' defaults with the block's own keys over them.
seed-analytics.jobValues (list $c $ "migrations") puts them into $c.values */}}
{{- define "seed-analytics.jobValues" -}}
{{- $c := index . 0 -}}
{{- $root := index . 1 -}}
{{- $_ := set $c "values" (mergeOverwrite (deepCopy $root.Values.global.stages) (deepCopy (index $root.Values (index . 2)))) -}}
{{- end }}

{{- /* ServiceAccount of a Job of the release: only where the database proxy logs in by it; else the pod needs none. */}}
{{- define "seed-analytics.jobServiceAccount" -}}
{{- if (index . 0).Values.global.cloudSqlProxy.enabled -}}{{ include "seed-lib.name" . }}{{- end -}}
{{- end }}

{{- define "seed-analytics.databaseUrl" -}}
{{- if .Values.devDatabase.enabled -}}
postgresql://seedtest:{{ .Values.global.secrets.database.password }}@{{ include "seed-lib.name" (list . "dev-database") }}:5432/seedtest
{{- else -}}
{{ .Values.global.secrets.database.value }}
{{- end -}}
{{- end }}

{{- define "seed-analytics.serviceAccount" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "seed-lib.metadata" (dict "root" $root "name" (index . 1) "component" (index . 2) "wave" "-2"
    "annotations" (include "seed-lib.proxyIdentity" $root | fromYaml)) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}

{{- /* When a Job of the release runs. With Helm: after install and upgrade, when every Secret, policy and database of the
release is there, whoever writes the Secret; a Job that succeeded is deleted, one that failed stays to be looked at. With
Argo CD: in a wave of the sync. Always deleted before the next, since a Job's template cannot change.
seed-analytics.hook (dict "root" $ "weight" "-1" "events" "post-install,post-upgrade") */}}
{{- define "seed-analytics.hook" -}}
{{- if eq .root.Values.migrations.mode "argocd" -}}
argocd.argoproj.io/hook: Sync
argocd.argoproj.io/hook-delete-policy: BeforeHookCreation
argocd.argoproj.io/sync-wave: {{ .weight | quote }}
{{- else -}}
helm.sh/hook: {{ .events }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-weight: {{ .weight | quote }}
{{- end -}}
{{- end }}

{{- /* Names of the release's ExternalSecrets, before global.namePrefix. */}}
{{- define "seed-analytics.externalSecretNames" -}}
{{- $secrets := .Values.global.secrets -}}
{{- if $secrets.combined.enabled }}
- {{ $secrets.combined.externalSecretName | quote }}
{{- else }}
{{- range include "seed-analytics.credentials" . | fromYamlArray }}
- {{ (index $secrets .).name | quote }}
{{- end }}
{{- end }}
{{- end }}
