{{- /*
Traffic is denied for every pod of the release; each policy grants one thing, by a label that the pods carry which
need it: seed-analytics/grant-dns, -database, -r-irt-plumber, ...

seed-lib.networkPolicy (dict "root" $ "name" .. "component" .. "selector" (dict) "ingress" (list) "egress" (list) ["objectName" ..] ["wave" "-2"])
A direction that is not given is not governed by the policy; an empty list denies it.
*/}}
{{- define "seed-lib.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" .name "objectName" .objectName "component" .component "wave" .wave) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- toYaml .selector | nindent 6 }}
  policyTypes:
    {{- if hasKey . "ingress" }}
    - Ingress
    {{- end }}
    {{- if hasKey . "egress" }}
    - Egress
    {{- end }}
  {{- with .ingress }}
  ingress:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .egress }}
  egress:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* Labels of the pods that hold a grant. seed-lib.grantSelector (list $ "database") */}}
{{- define "seed-lib.grantSelector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
seed-analytics/grant-{{ index . 1 }}: "true"
{{- end }}
