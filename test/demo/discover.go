package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// discover runs a service on one member and shows how the other one's istiod leads
// there.
func (d *demo) discover(ctx context.Context) error {
	for _, name := range []string{stays, leaves} {
		if err := d.rig.WaitMember(ctx, name, time.Minute, status.PeersReady, metav1.ConditionTrue, status.ReasonPeersSynced); err != nil {
			return err
		}
	}
	if err := d.show(ctx, "peers"); err != nil {
		return err
	}
	there, err := member.Connect(d.rig.Members[leaves].RESTConfig())
	if err != nil {
		return err
	}
	defer there.Close()
	start := time.Now()
	if err := d.runWeb(ctx); err != nil {
		return err
	}
	return rig.Eventually(ctx, time.Minute, func() error {
		look, err := istiod.View(ctx, there, istiod.Question{Member: leaves, Namespace: system})
		if err != nil {
			return err
		}
		web, found := leadsTo(look.Sees, "shop/web")
		if !found || web.Services["shop/web"] != webPods {
			return fmt.Errorf("the istiod of %s sees %+v of others' services", leaves, look.Sees)
		}
		d.say("discover", "Service shop/web with %d pods runs on %s: the istiod of %s leads to it by %s, %d ms after it was made",
			webPods, web.Member, leaves, web.Gateway, time.Since(start).Milliseconds())
		return nil
	})
}

func leadsTo(remotes []peering.Remote, service string) (peering.Remote, bool) {
	for _, remote := range remotes {
		if _, has := remote.Services[service]; has {
			return remote, true
		}
	}
	return peering.Remote{}, false
}

// webPods are the pods of the service that is discovered.
const webPods = 2

// runWeb runs a service that other members discover, on the member that stays.
func (d *demo) runWeb(ctx context.Context) error {
	cluster, err := d.rig.ClientOf(stays)
	if err != nil {
		return err
	}
	labels := map[string]string{"app": "web"}
	meta := metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: labels}
	deployment := &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To[int32](webPods), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}}},
	}}
	if err := cluster.Create(ctx, deployment); err != nil {
		return err
	}
	meta.Labels = map[string]string{"app": "web", "istio.io/global": "true"}
	return cluster.Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}})
}
