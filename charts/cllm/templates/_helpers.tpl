{{/* What everything is called. */}}
{{- define "cllm.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains "cllm" .Release.Name -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-cllm-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Empty when the release is only what an administrator of the cluster installs for operators of namespaces. */}}
{{- define "cllm.hasOperator" -}}
{{- if ne .Values.scope "Definitions" -}}yes{{- end -}}
{{- end -}}

{{/* A webhook is of the whole cluster: who may look at one namespace only has none. */}}
{{- define "cllm.injects" -}}
{{- if and .Values.injection.enabled (eq .Values.scope "Cluster") -}}yes{{- end -}}
{{- end -}}

{{/* Empty when no metrics are offered to autoscalers. By itself (auto) that is done only with the rights that the chart gives. */}}
{{- define "cllm.hasAdapter" -}}
{{- $enabled := toString .Values.metricsAdapter.enabled -}}
{{- if and (eq .Values.scope "Cluster") (ne $enabled "false") (or .Values.rbac.create (eq $enabled "true")) -}}yes{{- end -}}
{{- end -}}

{{/* Empty when nothing is served over HTTPS. */}}
{{- define "cllm.hasHttps" -}}
{{- if or (include "cllm.hasAdapter" .) (include "cllm.injects" .) -}}yes{{- end -}}
{{- end -}}

{{/* The Secret with the certificate of HTTPS. */}}
{{- define "cllm.certificateSecret" -}}
{{- default (printf "%s-certificates" (include "cllm.fullname" .)) .Values.certificates.existingSecret -}}
{{- end -}}

{{- define "cllm.selectorLabels" -}}
app.kubernetes.io/name: cllm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cllm.labels" -}}
{{- include "cllm.labelsAnd" (list . dict) -}}
{{- end -}}

{{/* With these labels beside: (list . .Values.podLabels). The chart's own win over those of values, so that no key stands twice. */}}
{{- define "cllm.labelsAnd" -}}
{{- $root := index . 0 -}}
{{- $own := include "cllm.selectorLabels" $root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "cllm" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own (index . 1) $root.Values.commonLabels) -}}
{{- end -}}

{{- define "cllm.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cllm.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false: name an existing service account" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image of this version: (list . "cllm-server" .Values.images.server). A full reference wins over registry and tag. */}}
{{- define "cllm.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $reference := index . 2 -}}
{{- if $reference -}}
{{- $reference -}}
{{- else -}}
{{- with $root.Values.images.registry -}}{{- trimSuffix "/" . -}}/{{- end -}}
{{- $name -}}:{{- default $root.Chart.AppVersion $root.Values.images.tag -}}
{{- end -}}
{{- end -}}

{{/* What every container of ours may: nothing that pod security "restricted" forbids. */}}
{{- define "cllm.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "cllm.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}
