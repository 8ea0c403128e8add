package kubelet

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// A state is what a pod's status says about its process.
type state struct {
	running, ready  bool
	reason, message string // why it does not run
	restarts        int
}

func running(ready bool, restarts int) state {
	return state{running: true, ready: ready, restarts: restarts}
}

func waiting(reason, message string, restarts int) state {
	return state{reason: reason, message: message, restarts: restarts}
}

// A reporter writes the status of one pod. It is used by one goroutine.
type reporter struct {
	client kubernetes.Interface
	pod    *corev1.Pod
	last   state
	heard  bool // last was written
}

// report writes the state if it is new, and returns whether it stands. A state
// that could not be written counts as new the next time.
func (r *reporter) report(ctx context.Context, s state) bool {
	if r.heard && s == r.last {
		return true
	}
	patch, err := json.Marshal(map[string]any{"status": podStatus(r.pod, s, metav1.NewTime(time.Now()))})
	if err != nil {
		return false
	}
	_, err = r.client.CoreV1().Pods(r.pod.Namespace).Patch(ctx, r.pod.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{FieldManager: "kubelet"}, "status")
	r.last, r.heard = s, err == nil
	return r.heard
}

// podStatus is the status of a pod, as kubelet would write it.
func podStatus(pod *corev1.Pod, s state, now metav1.Time) corev1.PodStatus {
	container := pod.Spec.Containers[0]
	started := s.running
	status := corev1.ContainerStatus{
		Name: container.Name, Image: container.Image, Ready: s.ready, Started: &started, RestartCount: int32(s.restarts),
	}
	phase := corev1.PodPending
	if s.running {
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: now}
	} else {
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: s.reason, Message: s.message}
	}
	if s.running || s.restarts > 0 {
		phase = corev1.PodRunning
	}
	return corev1.PodStatus{
		Phase:     phase,
		PodIP:     pod.Status.PodIP,
		PodIPs:    []corev1.PodIP{{IP: pod.Status.PodIP}},
		HostIP:    pod.Status.HostIP,
		StartTime: &now,
		Conditions: []corev1.PodCondition{
			condition(corev1.PodReadyToStartContainers, true, now),
			condition(corev1.PodInitialized, true, now),
			condition(corev1.ContainersReady, s.ready, now),
			condition(corev1.PodReady, s.ready, now),
		},
		ContainerStatuses: []corev1.ContainerStatus{status},
	}
}

func condition(kind corev1.PodConditionType, is bool, now metav1.Time) corev1.PodCondition {
	status := corev1.ConditionFalse
	if is {
		status = corev1.ConditionTrue
	}
	return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now}
}
