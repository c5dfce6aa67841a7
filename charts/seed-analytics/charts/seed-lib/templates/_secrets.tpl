{{- /*
Credentials. global.secrets names four: database, irt, forecast, brms. Each lives in one Secret under one key, whoever
writes it (External Secrets, the chart itself, or the user); with global.secrets.combined all live in one Secret.

seed-lib.secretName (list $ "irt") and seed-lib.secretKey (list $ "irt") say where.
*/}}
{{- define "seed-lib.secretName" -}}
{{- $root := index . 0 -}}
{{- $secrets := $root.Values.global.secrets -}}
{{- $name := (index $secrets (index . 1)).name -}}
{{- if and $secrets.combined.enabled (eq $secrets.source "external") -}}{{- $name = $secrets.combined.name -}}{{- end -}}
{{- if eq $secrets.source "existing" -}}{{ $name }}{{- else -}}{{ include "seed-lib.name" (list $root $name) }}{{- end -}}
{{- end }}

{{- define "seed-lib.secretKey" -}}
{{- $secrets := (index . 0).Values.global.secrets -}}
{{- $which := index . 1 -}}
{{- if and $secrets.combined.enabled (eq $secrets.source "external") -}}
{{- include "seed-lib.secretEnv" $which -}}
{{- else -}}
{{- (index $secrets $which).key -}}
{{- end -}}
{{- end }}

{{- /* The variable by which the jobs read a credential. */}}
{{- define "seed-lib.secretEnv" -}}
{{- if eq . "database" }}DATABASE_URL{{ else }}R_{{ upper . }}_INTERNAL_TOKEN{{ end -}}
{{- end }}

{{- /* seed-lib.envFromSecret (list $ "irt" "INTERNAL_TOKEN") */}}
{{- define "seed-lib.envFromSecret" -}}
- name: {{ index . 2 | quote }}
  valueFrom:
    secretKeyRef:
      name: {{ include "seed-lib.secretName" . | quote }}
      key: {{ include "seed-lib.secretKey" . | quote }}
{{- end }}

{{- /* seed-lib.secret (dict "root" $ "name" "r-irt-credentials" "data" (dict "token" "...")) */}}
{{- define "seed-lib.secret" -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" .name "component" "credentials" "wave" "-2") | nindent 2 }}
type: Opaque
data:
  {{- range $key, $value := .data }}
  {{ $key | quote }}: {{ b64enc $value | quote }}
  {{- end }}
{{- end }}

{{- /* Every field that the operator would default is written out, or a GitOps controller would see a difference for ever.
seed-lib.externalSecret (dict "root" $ "name" "r-irt-credentials" "target" "r-irt-credentials" "keys" (dict "token" "remote-key")) */}}
{{- define "seed-lib.externalSecret" -}}
{{- $store := .root.Values.secretStore -}}
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" .name "component" "credentials" "wave" "-2") | nindent 2 }}
spec:
  refreshInterval: {{ $store.refreshInterval | quote }}
  refreshPolicy: Periodic
  secretStoreRef:
    kind: {{ $store.kind }}
    name: {{ if $store.create }}{{ include "seed-lib.name" (list .root $store.name) | quote }}{{ else }}{{ $store.name | quote }}{{ end }}
  target:
    name: {{ include "seed-lib.name" (list .root .target) | quote }}
    creationPolicy: Owner
    deletionPolicy: Retain
    template:
      type: Opaque
      engineVersion: v2
      mergePolicy: Replace
      data:
        {{- range $key, $remote := .keys }}
        # Stored values often end in a newline; a header or a URL must not.
        {{ $key | quote }}: {{ printf "{{ index . %q | trim }}" $key | quote }}
        {{- end }}
  data:
    {{- range $key, $remote := .keys }}
    - secretKey: {{ $key | quote }}
      remoteRef:
        key: {{ $remote | quote }}
        conversionStrategy: Default
        decodingStrategy: None
        metadataPolicy: None
    {{- end }}
{{- end }}
