{{/*
The one shape of a service: Deployment, Service, PodDisruptionBudget, and a claim if it keeps files.
Takes {root, name, port, metricsPort} and may take {env, sidecars, volumes, isSingle}, as YAML text.
State lives outside: a pod may go at any time. isSingle forbids two pods at once.
*/}}
{{- define "selm.workload" -}}
{{- $values := index .root.Values .name -}}
{{- $fullname := printf "%s-%s" (include "selm.fullname" .root) .name -}}
{{- $isSingle := or .isSingle $values.persistence.enabled -}}
{{- if and $isSingle (gt (int $values.replicas) 1) -}}
{{- fail (printf "%s.replicas is %v, but it keeps files of its own: use 1, or for memory set milvus.uri" .name $values.replicas) -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $fullname }}
  labels: {{- include "selm.labels" . | nindent 4 }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels: {{- include "selm.selectorLabels" . | nindent 6 }}
  strategy:
    {{- if $isSingle }}
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
    {{- end }}
  template:
    metadata:
      labels: {{- include "selm.labels" . | nindent 8 }}
      {{- with $values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      automountServiceAccountToken: false
      # A Service named selm-inference would set SELM_INFERENCE_PORT=tcp://..., which is a setting.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      securityContext: {{- include "selm.podSecurity" .root | nindent 8 }}
      {{- with .root.Values.global.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ include "selm.image" . }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          env:
            {{- include "selm.env" . | nindent 12 }}
            {{- with .env }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- range $key, $value := $values.env }}
            - {name: {{ $key }}, value: {{ $value | quote }}}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: grpc, containerPort: {{ .port }}}
            - {name: metrics, containerPort: {{ .metricsPort }}}
          startupProbe:
            grpc: {port: {{ .port }}, service: selm.live}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: {{ div (int $values.startupSeconds) 5 }}
          livenessProbe:
            grpc: {port: {{ .port }}, service: selm.live}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            grpc: {port: {{ .port }}, service: ""}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          resources: {{- toYaml $values.resources | nindent 12 }}
          securityContext: {{- include "selm.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /var/lib/selm}
            - {name: tmp, mountPath: /tmp}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- with .sidecars }}
        {{- . | nindent 8 }}
        {{- end }}
      volumes:
        - name: data
          {{- if $values.persistence.enabled }}
          persistentVolumeClaim: {claimName: {{ $fullname }}}
          {{- else }}
          emptyDir: {}
          {{- end }}
        - {name: tmp, emptyDir: {}}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "selm.selectorLabels" . | nindent 14 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $fullname }}
  labels: {{- include "selm.labels" . | nindent 4 }}
spec:
  # Headless: a gRPC connection lasts, so the client must see all pods to spread its calls.
  clusterIP: None
  selector: {{- include "selm.selectorLabels" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ .port }}, targetPort: grpc, appProtocol: grpc}
    - {name: metrics, port: {{ .metricsPort }}, targetPort: metrics}
{{- if gt (int $values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $fullname }}
  labels: {{- include "selm.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "selm.selectorLabels" . | nindent 6 }}
{{- end }}
{{- if $values.persistence.enabled }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $fullname }}
  labels: {{- include "selm.labels" . | nindent 4 }}
spec: {{- include "selm.claim" $values.persistence | nindent 2 }}
{{- end }}
{{- end -}}
