{{/* Environment of the services: only settings that they know; anything else they refuse to start with. */}}

{{/* Where the four services are; takes root. Clients and services read the same variables. */}}
{{- define "selm.targets" -}}
{{- $fullname := include "selm.fullname" . -}}
- {name: SELM_INFERENCE_TARGET, value: "dns:///{{ $fullname }}-inference:50051"}
- {name: SELM_MEMORY_TARGET, value: "dns:///{{ $fullname }}-memory:50052"}
- {name: SELM_FEEDBACK_TARGET, value: "dns:///{{ $fullname }}-feedback:50053"}
- {name: SELM_TRAINER_TARGET, value: "dns:///{{ $fullname }}-trainer:50054"}
{{- end -}}

{{/* What every service gets; takes {root, name}. */}}
{{- define "selm.env" -}}
{{- $values := .root.Values -}}
- {name: {{ printf "SELM_%s_HOST" (upper .name) }}, value: "0.0.0.0"}
- {name: SELM_ALLOW_INSECURE, value: {{ $values.settings.allowInsecure | quote }}}
- {name: SELM_NATS_URL, value: {{ include "selm.natsUrl" .root | quote }}}
{{- if not $values.nats.url }}
- {name: SELM_NATS_MONITOR_URL, value: "http://{{ include "selm.fullname" .root }}-nats:8222"}
{{- end }}
- {name: SELM_ARTIFACTS_URI, value: {{ $values.settings.artifactsUri | quote }}}
- {name: SELM_DATA_DIR, value: /var/lib/selm}
- {name: SELM_LOG_LEVEL, value: {{ $values.settings.logLevel }}}
- {name: SELM_LOG_FORMAT, value: json}
- {name: SELM_DRAIN_DELAY_S, value: {{ $values.settings.drainDelaySeconds | quote }}}
- {name: SELM_GRACE_S, value: {{ $values.settings.graceSeconds | quote }}}
- name: SELM_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with $values.settings.pageKeySecret }}
- name: SELM_PAGE_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: page-key}}
{{- end }}
{{- with $values.nats.existingSecret }}
- name: SELM_NATS_USER
  valueFrom: {secretKeyRef: {name: {{ . }}, key: user}}
- name: SELM_NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
{{- end }}
{{ include "selm.targets" .root }}
# Libraries keep caches; everything but these two folders is read-only.
- {name: HOME, value: /tmp}
- {name: HF_HOME, value: /var/lib/selm/huggingface}
{{- end -}}
