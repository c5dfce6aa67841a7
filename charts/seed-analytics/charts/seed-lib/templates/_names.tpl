{{- /*
Names and labels. Objects carry the bare names of the runbooks ("fit-survival-churn"); global.namePrefix
is put before every one of them, so that a second release can live beside the first.

seed-lib.name (list $ "fit-survival-churn") -> blue-fit-survival-churn
*/}}
{{- define "seed-lib.name" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- with $root.Values.global.namePrefix -}}{{- $name = printf "%s-%s" . $name -}}{{- end -}}
{{- $max := 63 -}}
{{- if gt (len .) 2 -}}{{- $max = index . 2 -}}{{- end -}}
{{- if gt (len $name) $max -}}
{{- fail (printf "global.namePrefix makes the name %q %d characters long; at most %d are allowed: set a shorter global.namePrefix" $name (len $name) $max) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{- /* Labels that select a component's pods: never the chart's version, or an upgrade would orphan pods.
seed-lib.selector (list $ "r-irt-plumber") */}}
{{- define "seed-lib.selector" -}}
app.kubernetes.io/name: {{ index . 1 | quote }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
{{- end }}

{{- /* Labels of a pod. Those that start with seed-analytics/ are what NetworkPolicies grant by.
seed-lib.podLabels (dict "root" $ "name" "fit-survival-churn" "component" "stage" "grants" (list "dns" "database") "extra" $v.podLabels) */}}
{{- define "seed-lib.podLabels" -}}
{{- $own := include "seed-lib.selector" (list .root .name) | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/component" .component -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "seed-analytics" -}}
{{- range .grants -}}{{- $_ := set $own (printf "seed-analytics/grant-%s" .) "true" -}}{{- end -}}
{{- toYaml (merge $own (default dict .extra) .root.Values.global.commonLabels) -}}
{{- end }}

{{- /* Metadata of an object (not of a pod).
seed-lib.metadata (dict "root" $ "name" "fit-survival-churn" "component" "stage" ["objectName" ...] ["wave" "-2"] ["annotations" (dict)] ["clusterWide" true])
The wave is Argo CD's, and set where Argo CD runs the migration. What is cluster-wide has no namespace. */}}
{{- define "seed-lib.metadata" -}}
{{- $annotations := deepCopy (default dict .annotations) -}}
{{- if and .wave (eq (default dict .root.Values.migrations).mode "argocd") -}}
{{- $_ := set $annotations "argocd.argoproj.io/sync-wave" .wave -}}
{{- end -}}
name: {{ include "seed-lib.name" (list .root (default .name .objectName) (default 63 .max)) | quote }}
{{- if not .clusterWide }}
namespace: {{ .root.Release.Namespace | quote }}
{{- end }}
labels:
  {{- $own := include "seed-lib.selector" (list .root .name) | fromYaml }}
  {{- $_ := set $own "app.kubernetes.io/component" .component }}
  {{- $_ := set $own "app.kubernetes.io/part-of" "seed-analytics" }}
  {{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
  {{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion }}
  {{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
  {{- /* The object's own labels win over those of all objects, and no key stands twice. */}}
  {{- toYaml (merge $own (default dict .labels) .root.Values.global.commonLabels) | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
